"""The example project, where a password is checked at once: a real hash takes 0.3 s of CPU."""

from example_project.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
