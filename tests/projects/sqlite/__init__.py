"""A project with SQLite in a file, and none of its options set."""
