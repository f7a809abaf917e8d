"""The suite's settings with SQLite in a file, which processes share, and none of its options."""

import os
import tempfile

from tests.settings import *  # noqa: F403

_file = os.path.join(tempfile.gettempdir(), f"s3direct-{os.getpid()}.sqlite3")
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _file,
        "TEST": {"NAME": f"{_file}.test"},
    }
}
