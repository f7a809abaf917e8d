"""The database connection. It is released before S3 is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections, router, transaction
from django.db.transaction import TransactionManagementError

from s3direct_uploads import conf
from s3direct_uploads.models import Upload

_View = TypeVar("_View", bound=Callable[..., Any])


def database() -> str:
    """The alias of the primary database. A replica may not have the last UPDATE yet."""
    return router.db_for_write(Upload)


def site() -> str:
    """The text that each key's MAC contains: the site, its database, and the tenant's schema.

    If one of them changes, older keys are no longer proven ours, and their objects are left alone.
    """
    alias = database()
    name = str(connections[alias].settings_dict["NAME"])
    return json.dumps([conf.site(), alias, name, schema_name() or ""])


def schema_name() -> str | None:
    """The schema of the current tenant, as django-tenants sets it; None if nothing sets it."""
    return getattr(connections[database()], "schema_name", None)


def schemas(table: str = "") -> list[str]:
    """The database's schemas with this table, or that of uploads; [] if it has no schemas."""
    connection = connections[database()]
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname FROM pg_tables WHERE tablename = %s ORDER BY 1",
            [table or Upload._meta.db_table],
        )
        return [schema for (schema,) in cursor.fetchall()]


def never_atomic(view: _View) -> _View:
    """Decorate a view that waits for S3: no transaction is around it, even with ATOMIC_REQUESTS.

    Example::

        @lifecycle.never_atomic
        def my_view(request): ...
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def in_transaction() -> bool:
    """Whether a transaction is open on our connection."""
    blocks = connections[database()].atomic_blocks
    # The transaction around a TestCase does not count. atomic(durable=True) has the same exception.
    return bool(blocks) and not getattr(blocks[-1], "_from_testcase", False)


def refuse_transaction(operation: str) -> None:
    """Raises TransactionManagementError if the caller holds a transaction while it waits for S3."""
    if in_transaction():
        raise TransactionManagementError(
            f"{operation}() waits for S3, and must not hold a transaction meanwhile. Call it "
            "outside of atomic(), in a view with the decorator lifecycle.never_atomic."
        )


def release_connection() -> None:
    """Give a pooled connection back before S3 is called, so that others can use it meanwhile."""
    connection = connections[database()]
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
