"""Forms with uploads in Chromium: in Django's admin, on a host's page, and without Django's forms.

Every page is served with the strictest policy that an upload allows; nothing may violate it.
"""
