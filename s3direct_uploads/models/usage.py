"""How much of its quota each owner uses."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connections, models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

if sys.version_info >= (3, 14):
    pass
else:
    pass

if TYPE_CHECKING:
    pass


class Usage(models.Model):
    """How much one owner has in one destination that has a limit; or all visitors together.

    Each change of an upload's row changes this row in the same transaction. If the row is missing,
    the owner's next begin counts the uploads.

    Why a table of its own: a SUM would take longer as the table of uploads grows, and a lock on the
    owner's row would delay every INSERT that refers to the owner.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        null=True,  # the row of all visitors
        blank=True,
        on_delete=models.CASCADE,
        db_index=False,  # the index of the unique constraint begins with this column
        related_name="+",
    )
    destination = models.CharField(_("destination"), max_length=63)
    pending = models.BigIntegerField(
        _("pending"), default=0, help_text=_("How many uploads are pending.")
    )
    total_size = models.BigIntegerField(
        _("total size"),
        default=0,
        help_text=_("In bytes: all uploads whose objects exist, or may still arrive."),
    )

    class Meta:
        verbose_name = _("usage")
        verbose_name_plural = _("usage")
        constraints = [
            models.UniqueConstraint(fields=["owner", "destination"], name="s3direct_usage_once"),
            models.UniqueConstraint(
                fields=["destination"], name="s3direct_visitors_usage", condition=Q(owner=None)
            ),
        ]

    def __str__(self) -> str:
        owner = self.owner_id or gettext("visitors")
        return gettext("%(owner)s in %(destination)s") % {
            "owner": owner,
            "destination": self.destination,
        }


def write_first(using: str) -> None:
    """On SQLite, begin a transaction with a write, if it would begin with a read otherwise.

    SQLite fails a transaction at once ("database is locked") if it has read, and then wants to
    write while another one writes. A transaction that writes first waits for its turn.
    """
    connection = connections[using]
    if connection.in_atomic_block and not connection.features.has_select_for_update:
        Usage.objects.using(using).filter(pk=0).update(pending=0)  # no row has this key
