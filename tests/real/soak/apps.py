"""A host whose handler says when it starts and ends, and does what handlers may do, dying too."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig

from s3direct_uploads import signals
from s3direct_uploads.exceptions import UploadError

if TYPE_CHECKING:
    from s3direct_uploads.models import Upload


class Soak(AppConfig):
    name = "tests.real.soak"

    def ready(self) -> None:
        signals.upload_completed.connect(hear)


def hear(upload: Upload, cause: str, **_: Any) -> None:
    given = json.loads(os.environ["SOAK"])
    announcements = Path(given["announcements"])
    chance = random.Random(f"{given['seed']} {os.getpid()} {upload.pk}").random() * 100
    note(announcements, "start", upload)
    if chance < 0.6:
        die(announcements, upload)
    elif chance < 2:
        time.sleep(0.3)
    elif chance < 6:
        with suppress(UploadError):  # its client was faster
            if chance < 4:
                upload.attach()
            else:
                lifecycle().cancel(upload)
    note(announcements, "end", upload)
    if 6 < chance < 7:
        raise RuntimeError("a handler that fails")
    if 7 < chance < 7.6:  # right after the handlers, or soon
        threading.Timer(chance % 0.004, die, [announcements, upload]).start()


def lifecycle() -> Any:
    from s3direct_uploads import lifecycle  # it has models, which come after the apps

    return lifecycle


def note(announcements: Path, what: str, upload: Upload) -> None:
    line = f"{what} {upload.pk} {os.getpid()} {time.monotonic()}\n"
    log = os.open(announcements, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())  # at once, so that lines of many processes do not mix
    os.close(log)


def die(announcements: Path, upload: Upload) -> None:
    note(announcements, "dies", upload)
    os.kill(os.getpid(), signal.SIGKILL)
