"""What happens to the uploads of a user who is deleted."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, Value, When
from django.db.models.functions import Coalesce

# Made once: Django joins the updates of many users if the value is the same object.
ENDED = Case(When(status="completed", then=Value("deleted")), default=Value("cancelled"))
# The sweep waits longer if the key is still open.
DUE = Coalesce("busy_until", "url_expires_at")


def give_up(collector: Any, field: Any, uploads: Any, using: str) -> None:
    """As SET_NULL, for ``on_delete``; and make tombstones of the uploads that nobody holds.

    Django does these UPDATEs in the transaction that deletes the user, and only then. They are
    conditional: an upload that is confirmed or attached meanwhile is changed before or after them.
    """
    column = field.model._meta.get_field
    alive = uploads.filter(status__in=["pending", "verifying", "completed"], attached_at=None)
    # In this order: each condition must still hold after the updates before it.
    collector.add_field_update(column("due_at"), DUE, alive)
    collector.add_field_update(column("status"), ENDED, alive)
    collector.add_field_update(field, None, uploads)


give_up.lazy_sub_objs = True  # type: ignore[attr-defined]  # as SET_NULL: Django need not read them
