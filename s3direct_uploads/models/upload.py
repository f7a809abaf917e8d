"""The row of an upload."""

from __future__ import annotations

import logging
import sys
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.db import models, router, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from s3direct_uploads import conf, disowning, form_values, inserting, keys, reasons, times
from s3direct_uploads.exceptions import (
    IS_NOW,
    AlreadyAttached,
    NotAttached,
    NotCompleted,
)
from s3direct_uploads.storage import is_asked_anew

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid6 import uuid7

if TYPE_CHECKING:
    pass

from .querying import UploadQuerySet
from .usage import write_first

logger = logging.getLogger("s3direct_uploads")

# The statuses in which a sweep deletes the object, and later the row.
TOMBSTONES = ["rejected", "expired", "cancelled", "deleted"]
# The slowest client that we wait for: a PUT that began before its URL expired may end much later.
SLOWEST_BYTES_PER_SECOND = 64 * 1024


def new_id() -> UUID:
    """Make an id that grows with time, so that INSERTs go to the index's end. It is no secret."""
    return UUID(bytes=uuid7().bytes)  # the package uuid6 has a class of its own


class Upload(models.Model):
    """One attempt by one owner to put one object at one key.

    ``lifecycle.begin`` inserts the row with the status ``pending``, before it signs a URL. The row
    has everything that is needed to settle it later, also if the settings change.

    Only ``lifecycle`` and the methods of this class change a row, each time by a conditional
    UPDATE. The status changes like this:

    - ``pending`` → ``completed`` or ``rejected``: confirm compared what S3 has with what was
      declared. A client, an S3 event or a sweep calls it.
    - ``pending`` → ``verifying``: the same, and the destination has HOLD. Now a scan holds it.
    - ``verifying`` → ``completed`` or ``rejected``: the scan accepted or rejected it. It is also
      rejected if no scan answered in time, or if its object was replaced meanwhile.
    - ``pending`` or ``verifying`` → ``cancelled``: its owner cancelled it.
    - ``pending`` → ``expired``: S3 had no object, and no URL could write to the key any more.
    - ``completed`` → ``deleted``: its owner deleted it, or a model released it.

    If the owner's row is deleted, their uploads end in the same way, unless a model uses them.

    A row that ended in another status than ``completed`` is a tombstone. The sweep deletes its
    object once no URL can write to its key, and later the row.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("Pending")
        VERIFYING = "verifying", _("Verifying")  # a scan holds it
        COMPLETED = "completed", _("Completed")
        REJECTED = "rejected", _("Rejected")
        EXPIRED = "expired", _("Expired")
        CANCELLED = "cancelled", _("Cancelled")
        DELETED = "deleted", _("Deleted")

    id = models.UUIDField(_("id"), primary_key=True, default=new_id, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        null=True,
        blank=True,
        on_delete=disowning.give_up,
        db_index=False,  # the index s3direct_mine_newest begins with this column
        related_name="s3direct_uploads",
    )
    # Not the same as "no owner": scripts begin uploads too, and the owner's row may be deleted.
    visitor = models.BooleanField(
        _("visitor"),
        default=False,
        db_default=False,
        help_text=_("Begun by a visitor without a login."),
    )

    # Where the object is. The row has it all, because the settings may change before it is settled.
    destination = models.CharField(_("destination"), max_length=63)
    storage = models.CharField(_("storage"), max_length=63, help_text=_("An alias in STORAGES."))
    bucket = models.CharField(_("bucket"), max_length=255)
    key = models.CharField(_("key"), max_length=1024)
    object_parameters = models.JSONField(
        _("object parameters"),
        default=dict,
        blank=True,
        help_text=_("What the storage and the destination add to the PUT."),
    )

    # What the client declared.
    filename = models.CharField(_("filename"), max_length=255)
    content_type = models.CharField(_("content type"), max_length=255)
    size = models.BigIntegerField(_("size"), help_text=_("Bytes."))
    checksum_algorithm = models.CharField(_("checksum algorithm"), max_length=16, blank=True)
    checksum = models.CharField(_("checksum"), max_length=64, blank=True, help_text=_("In base64."))
    context = models.JSONField(_("context"), default=dict, blank=True)
    idempotency_key = models.CharField(_("idempotency key"), max_length=64, null=True, blank=True)  # noqa: DJ001

    # What S3 said.
    etag = models.CharField(_("ETag"), max_length=255, blank=True)
    version_id = models.CharField(_("version id"), max_length=1024, blank=True)
    multipart_upload_id = models.TextField(
        _("multipart upload id"),
        blank=True,
        help_text=_("If it is empty, and there is a part size, S3's answer was lost."),
    )

    # What this app records.
    part_size = models.BigIntegerField(
        _("part size"),
        null=True,
        blank=True,
        help_text=_("The size of each part in bytes. Empty for one PUT."),
    )
    busy_until = models.DateTimeField(
        _("busy until"),
        null=True,
        blank=True,
        help_text=_("Until then, one process alone creates or completes the multipart upload."),
    )
    hold = models.BooleanField(
        _("hold"), default=False, help_text=_("Begun where a scan holds what is confirmed.")
    )
    counted = models.BooleanField(
        _("counted"),
        default=False,
        db_default=False,
        help_text=_("Whether it counts in its owner's usage."),
    )
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.PENDING)
    reason = models.CharField(
        _("reason"), max_length=255, blank=True, help_text=_("Why it was rejected.")
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    url_expires_at = models.DateTimeField(
        _("URL expires at"), help_text=_("When the newest signature expires.")
    )
    expires_at = models.DateTimeField(
        _("expires at"), help_text=_("The deadline. It is never extended.")
    )
    due_at = models.DateTimeField(
        _("due at"),
        null=True,
        blank=True,
        help_text=_("When a sweep must look at it. Empty: never."),
    )
    failing_since = models.DateTimeField(
        _("failing since"),
        null=True,
        blank=True,
        help_text=_("When S3 first failed for this key alone, after the deadline."),
    )
    held_at = models.DateTimeField(
        _("held at"),
        null=True,
        blank=True,
        help_text=_("When it was confirmed, and a scan began to hold it."),
    )
    completed_at = models.DateTimeField(_("completed at"), null=True, blank=True)
    announced_at = models.DateTimeField(_("announced at"), null=True, blank=True)
    attached_at = models.DateTimeField(_("attached at"), null=True, blank=True)
    attached_to = models.CharField(
        _("attached to"),
        max_length=255,
        blank=True,
        help_text=_("The model's field that uses it; empty: the project's own code does."),
    )
    object_deleted_at = models.DateTimeField(_("object deleted at"), null=True, blank=True)

    objects = UploadQuerySet.as_manager()

    class Meta:
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")
        indexes = [
            models.Index("owner", F("id").desc(), name="s3direct_mine_newest"),
            models.Index(fields=["due_at"], name="s3direct_due", condition=Q(due_at__isnull=False)),
            # For the admin's filter. Most rows are completed, and are not in it.
            models.Index(
                "status", F("id").desc(), name="s3direct_unusual", condition=~Q(status="completed")
            ),
            # For the admin's search by prefix. PostgreSQL needs the operator class for it.
            models.Index(
                fields=["filename"], name="s3direct_filename", opclasses=["varchar_pattern_ops"]
            ),
        ]
        constraints = [
            # Not unique=True, because that adds a second index for LIKE on PostgreSQL.
            models.UniqueConstraint(fields=["key"], name="s3direct_key_once"),
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"],
                name="s3direct_begun_once",
                condition=Q(idempotency_key__isnull=False),
            ),
            # The constraint above ignores rows without an owner: no NULL equals another.
            models.UniqueConstraint(
                fields=["idempotency_key"],
                name="s3direct_visitor_begun_once",
                condition=Q(visitor=True, idempotency_key__isnull=False),
            ),
            models.CheckConstraint(
                condition=Q(visitor=False) | Q(owner__isnull=True), name="s3direct_visitor_unowned"
            ),
            models.CheckConstraint(condition=Q(size__gte=0), name="s3direct_size"),
            models.CheckConstraint(
                condition=Q(part_size__gt=0)
                | Q(part_size__isnull=True, multipart_upload_id="", busy_until__isnull=True),
                name="s3direct_multipart_whole",
            ),
            models.CheckConstraint(
                condition=Q(checksum="", checksum_algorithm="")
                | (~Q(checksum="") & ~Q(checksum_algorithm="")),
                name="s3direct_checksum_whole",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "verifying", "completed", *TOMBSTONES]),
                name="s3direct_status",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["completed", "deleted"], completed_at__isnull=False)
                | (~Q(status__in=["completed", "deleted"]) & Q(completed_at__isnull=True)),
                name="s3direct_completed_has_time",
            ),
            models.CheckConstraint(
                condition=~Q(status="verifying") | Q(held_at__isnull=False),
                name="s3direct_verifying_has_time",
            ),
            models.CheckConstraint(
                condition=Q(announced_at__isnull=True) | Q(completed_at__isnull=False),
                name="s3direct_announced_is_completed",
            ),
            models.CheckConstraint(
                condition=Q(attached_at__isnull=True) | Q(status="completed"),
                name="s3direct_attached_is_completed",
            ),
            models.CheckConstraint(
                condition=Q(attached_to="") | Q(attached_at__isnull=False),
                name="s3direct_holder_is_attached",
            ),
            models.CheckConstraint(
                condition=Q(object_deleted_at__isnull=True) | Q(status__in=TOMBSTONES),
                name="s3direct_only_tombstones_lose_objects",
            ),
            models.CheckConstraint(
                condition=~Q(status="rejected") | ~Q(reason=""), name="s3direct_rejected_has_reason"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.filename} ({self.get_status_display().lower()})"

    def delete(self, using: str | None = None, keep_parents: bool = False) -> Any:
        write_first(using or router.db_for_write(Upload, instance=self))
        return super().delete(using=using, keep_parents=keep_parents)

    delete.alters_data = True  # type: ignore[attr-defined]

    def _do_insert(
        self, manager: Any, using: str, fields: Any, returning_fields: Any, raw: bool
    ) -> Any:
        # What the row has already, the database need not return.
        known = set(returning_fields) <= set(fields)
        if known and inserting.insert(self, using, fields, raw=raw):
            return []
        return super()._do_insert(  # type: ignore[misc]
            manager, using, fields, returning_fields, raw
        )

    @property
    def name(self) -> str:
        """The value for a FileField: the key without the storage's location.

        Raises ImproperlyConfigured if the storage has another bucket or location now.
        """
        name = keys.name_in(storages[self.storage], self.bucket, self.key)
        if name is None:
            raise ImproperlyConfigured(f"The storage {self.storage!r} has no key {self.key!r}.")
        return name

    @property
    def form_value(self) -> str | None:
        """What a form posts for this upload: its id, and a proof that its owner chose it.

        An id is no secret. So this value is told to the owner alone, until the owner changes:
        whoever has it can attach the upload, and call the API for a visitor's. None for a script's.
        """
        return form_values.make(self.pk, self.owner_id) if self.is_somebodys else None

    def is_proven_by(self, value: str) -> bool:
        """Whether ``value`` is this upload's ``form_value``."""
        return self.is_somebodys and form_values.is_proof(value, self.pk, self.owner_id)

    @property
    def is_somebodys(self) -> bool:
        """Whether a user owns it, or a visitor has its ``form_value``; False for a script's."""
        return self.owner_id is not None or self.visitor

    @property
    def is_now(self) -> str:
        """A sentence about its status in English, for an error."""
        return IS_NOW[self.status]

    @property
    def localized_reason(self) -> str:
        """Why it was rejected, in the active language. ``reason`` is in English if it is ours."""
        return reasons.localized(self.reason)

    @property
    def is_here(self) -> bool:
        """Whether its storage has it in this request: False for another tenant's upload."""
        storage = storages[self.storage]
        if not any(is_asked_anew(storage, name) for name in ("location", "bucket_name")):
            return True  # and ``name`` says what is wrong, if anything is
        try:
            return bool(self.name)
        except ImproperlyConfigured:
            return False

    @property
    def is_multipart(self) -> bool:
        """Whether the file is sent in parts."""
        return self.part_size is not None

    @property
    def part_count(self) -> int:
        """How many parts a multipart upload has. The last one may be smaller, or even empty."""
        assert self.part_size is not None
        return max(1, -(-self.size // self.part_size))

    def size_of_part(self, number: int) -> int:
        """The size of a part in bytes. ``number`` is from 1 to ``part_count``."""
        assert self.part_size is not None
        return min(self.part_size, self.size - (number - 1) * self.part_size)

    @property
    def gives_up_at(self) -> datetime:
        """When it expires. A PUT may still be running after the deadline, so this may be later."""
        return max(self.expires_at, self.key_closes_at)

    @property
    def key_closes_at(self) -> datetime:
        """When no request that we signed can write to the key any more."""
        in_one_request = self.part_size or self.size
        under_way = timedelta(seconds=in_one_request / SLOWEST_BYTES_PER_SECOND)
        return times.later(self.url_expires_at, max(conf.sweep_grace(), under_way))

    @property
    def hold_ends_at(self) -> datetime:
        """When it is rejected unless a scan has answered; only of an upload that was held."""
        assert self.held_at is not None
        return times.later(self.held_at, conf.hold_expires())

    def attach(self, *, to: str = "") -> str:
        """Claim this upload for a model, once. Returns the name for the model's FileField.

        An ``UploadFileField`` calls it itself. For another field, call it in the same ``atomic()``
        block as the model's INSERT, so that both roll back together::

            with transaction.atomic():
                photo = Photo.objects.create(image=upload.attach())

        It does not check the owner or the destination. ``to`` names the field that will hold the
        file: "photos.Photo.image". **Warning:** ``sweep_uploads --reconcile --delete`` releases,
        and so deletes, a file with ``to`` that no row has in this field. Leave ``to`` empty if you
        keep the name elsewhere, such as in a JSONField.

        Raises NotCompleted, AlreadyAttached, and ImproperlyConfigured as ``name`` does.
        """
        name = self.name
        self.claim(to)
        return name

    def claim(self, to: str) -> None:
        """As ``attach``, for a field that knows the name by itself."""
        now, this = timezone.now(), Upload.objects.filter(pk=self.pk)
        free = this.in_status(self.Status.COMPLETED).unattached()
        if not free.update(attached_at=now, attached_to=to):
            self.refresh_from_db(using=router.db_for_write(Upload, instance=self))
            if self.attached_at:
                raise AlreadyAttached(gettext_noop("This upload is in use already."), upload=self)
            raise NotCompleted(gettext_noop("This upload is not completed."), upload=self)
        self.attached_at, self.attached_to = now, to

    def release(self) -> None:
        """Give up what ``attach()`` claimed: the model no longer needs the file. Idempotent.

        It is one conditional UPDATE, and does not call S3. Call it in the same ``atomic()`` block
        as the change of the model's row, so that both roll back together. The upload becomes a
        tombstone: a sweep deletes its object once no URL can write to its key. Only then the
        owner's quota is free again.

        **Warning:** the file is lost. Release an upload only if no row of a model names its file.

        Raises NotAttached if no model uses it.
        """
        this = Upload.objects.filter(pk=self.pk, status=self.Status.COMPLETED)
        changes = {
            "status": self.Status.DELETED,
            "attached_at": None,
            "attached_to": "",
            "due_at": self.key_closes_at,
        }
        if this.filter(attached_at__isnull=False).update(**changes):
            for field, value in changes.items():
                setattr(self, field, value)
            log = partial(log_transition, self, self.Status.COMPLETED, "script")
            transaction.on_commit(log, using=router.db_for_write(Upload, instance=self))
            return
        self.refresh_from_db(using=router.db_for_write(Upload, instance=self))
        if self.status != self.Status.DELETED:
            raise NotAttached(gettext_noop("No model uses this upload."), upload=self)


def log_transition(upload: Upload, before: str | None, cause: str) -> None:
    """Log one record for a change of status. Its ``duration`` is in seconds since begin."""
    if not logger.isEnabledFor(logging.INFO):
        return
    age = times.utc(timezone.now()) - times.utc(upload.created_at)
    record = {
        "upload_id": str(upload.pk),
        "destination": upload.destination,
        "from": before,
        "to": str(upload.status),
        "cause": cause,
        "duration": round(age.total_seconds(), 3),
    }
    logger.info(
        "Upload %(upload_id)s to %(destination)s: %(from)s -> %(to)s (%(cause)s, %(duration)s s)",
        record,
        extra=record,
    )
