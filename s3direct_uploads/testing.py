"""For a host's tests without S3: ``completed_upload`` makes an upload that a client has completed.

pytest finds the fixture ``uploads_in_memory`` by itself. With unittest, write
``with storages_in_memory(): …``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import AbstractBaseUser

    from .destinations import Destination
    from .models import Upload

# pytest imports this module before Django is set up, so it imports Django where it is used.


def completed_upload(
    *,
    destination: str,
    owner: AbstractBaseUser | None = None,
    visitor: bool = False,
    content: bytes = b"content",
    filename: str = "file.bin",
    content_type: str = "",
    context: dict[str, Any] | None = None,
    hooks: bool = False,
) -> Upload:
    """Create an upload as it is after confirm, ready to be attached. It is nobody's by default.

    If the destination's storage is not on S3 (see ``storages_in_memory``), the storage keeps
    ``content``, so that ``photo.image.read()`` works. Raises ValidationError if there is no such
    destination, and OwnerUnknown as ``lifecycle.begin`` does.

    Without ``hooks`` no hook and no signal runs. With ``hooks`` the rules of the destination hold,
    and all of its hooks are called, as when a script begins and confirms: ``has_permission``,
    ``clean_context``, ``get_prefix``, then SNIFF, IMAGE, ``verify``, ``completed``, and the
    signals. It raises what they raise: ValidationError and PermissionDenied before there is a row;
    ObjectMismatch, whose ``upload`` is rejected; HookFailed. Limits per owner are not applied.
    """
    from . import destinations
    from .models import Upload, owner_key

    rules = destinations.get(destination)
    upload = Upload(
        owner_id=None if owner is None else owner_key(owner),
        visitor=visitor,
        destination=destination,
        filename=destinations.strip_invisible(filename),
        content_type=content_type,
        size=len(content),
        context=context or {},
    )
    prefix = rules.default_prefix
    if hooks:
        rules.clean(upload, None)
        asked = f"get_prefix of {rules.name!r}"
        prefix = destinations.ask(asked, rules.get_prefix, upload, None)
    _place(upload, rules, prefix, content)
    return _confirmed(upload) if hooks else _completed(upload)


def _place(upload: Upload, rules: Destination, prefix: str, content: bytes) -> None:
    """Give it a key, and keep its content there if the storage is not on S3."""
    from django.core.files.base import ContentFile
    from django.core.files.storage import storages
    from django.utils import timezone
    from storages.backends.s3 import S3Storage

    from . import conf, content_types, keys, lifecycle

    storage = storages[rules.storage]
    upload.storage = rules.storage
    upload.bucket = storage.bucket_name if isinstance(storage, S3Storage) else ""
    upload.content_type = upload.content_type or content_types.guess(upload.filename)
    upload.url_expires_at = upload.expires_at = timezone.now()
    site, length = lifecycle.site(), conf.max_name_length()
    location = keys.location_of(storage)
    name = keys.new_name(site, upload.bucket, location, prefix, upload.filename, length)
    upload.key = keys.join(location, name)
    if not isinstance(storage, S3Storage):
        storage.save(name, ContentFile(content))


def _completed(upload: Upload) -> Upload:
    from django.utils import timezone

    upload.status, upload.etag = upload.Status.COMPLETED, '"test"'
    upload.completed_at = upload.announced_at = timezone.now()
    upload.save(force_insert=True)
    return upload


def _confirmed(upload: Upload) -> Upload:
    from . import lifecycle
    from .s3 import StoredObject

    upload.save(force_insert=True)
    stored = StoredObject(
        size=upload.size,
        content_type=upload.content_type,
        etag='"test"',
        version_id="",
        checksums={},
        parameters={},
    )
    return lifecycle.confirm(upload, find=lambda _: stored)


@contextmanager
def storages_in_memory() -> Iterator[None]:
    """Inside this context, the storages of all destinations keep their files in memory."""
    from django.conf import settings
    from django.test import override_settings

    from . import conf, destinations

    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    aliases = {destinations.get(name).storage for name in conf.destinations()}
    with override_settings(STORAGES={**settings.STORAGES, **dict.fromkeys(aliases, memory)}):
        yield


try:
    import pytest
except ImportError:  # unittest does not need it
    pass
else:

    @pytest.fixture
    def uploads_in_memory(db: None) -> Iterator[Callable[..., Upload]]:
        """``completed_upload``, with the storages of all destinations in memory for this test."""
        with storages_in_memory():
            yield completed_upload
