"""A project with USE_TZ = False, in a time zone whose clock changes twice a year."""
