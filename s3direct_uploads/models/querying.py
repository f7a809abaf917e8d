"""Which uploads: of an owner, of a form, of a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models
from django.utils.translation import gettext_noop

from s3direct_uploads import form_values, keys
from s3direct_uploads.exceptions import (
    OwnerUnknown,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
    from django.db.models.fields.files import FieldFile

    from .upload import Upload

from .usage import write_first


def owner_key(owner: object) -> Any:
    """The primary key of a saved user.

    Raises OwnerUnknown if ``owner`` is anything else. The user of a stateless token, or a device,
    may have the same ``pk`` as a different user.
    """
    if not isinstance(owner, get_user_model()) or owner._state.adding or owner.pk is None:
        raise OwnerUnknown(
            gettext_noop("The owner must be a saved %(model)s."),
            {"model": settings.AUTH_USER_MODEL},
        )
    return owner.pk


class UploadQuerySet(models.QuerySet["Upload"]):
    def owned_by(self, owner: AbstractBaseUser | AnonymousUser) -> Self:
        """The uploads of this user; none if ``owner`` is no saved user.

        Uploads without an owner (of scripts, of visitors) belong to no user, an anonymous included.
        """
        try:
            return self.filter(owner=owner_key(owner))
        except OwnerUnknown:
            return self.none()

    def opened_by(self, token: str) -> Self:
        """The visitor's upload whose ``form_value`` this is: one row, or none."""
        return self.filter(pk=form_values.visitors_id_in(token), visitor=True)

    def delete(self) -> tuple[int, dict[str, int]]:
        write_first(self.db)  # Django reads the rows before it deletes them
        return super().delete()

    # As in Django: templates do not call it, and managers do not have it.
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def newest_first(self) -> Self:
        return self.order_by("-id")

    def in_status(self, status: str) -> Self:
        return self.filter(status=status)

    def unattached(self) -> Self:
        return self.filter(attached_at=None)

    def of_file(self, file: FieldFile) -> Self:
        """The upload of this model's file: one row, or none.

        There is none if the field is empty, or if the file came in another way.
        """
        if not file:
            return self.none()
        key = keys.join(keys.location_of(file.storage), file.name or "")
        return self.filter(bucket=getattr(file.storage, "bucket_name", ""), key=key)

    def of_form_values(self, values: Iterable[str]) -> dict[str, Upload]:
        """The uploads whose ``form_value`` these are, by value. One query.

        A value that is malformed, forged, of a former owner, or of no upload is not in the answer.
        """
        ids = {each: id for each in values if (id := form_values.id_in(each))}
        rows = self.in_bulk(set(ids.values()))
        found = {each: rows[id] for each, id in ids.items() if id in rows}
        return {each: upload for each, upload in found.items() if upload.is_proven_by(each)}
