"""The database connection. Nothing holds it while we wait for S3."""

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
    # The primary: a replica may not have seen the last UPDATE yet.
    return router.db_for_write(Upload)


def site() -> str:
    """Whose keys are ours: those of this site, of its database, and of the current tenant's schema.

    Where one of them changes, the keys from before are not proven ours any more, and left alone.
    """
    alias = database()
    name = str(connections[alias].settings_dict["NAME"])  # which two servers' may both have
    return json.dumps([conf.site(), alias, name, schema_name() or ""])


def schema_name() -> str | None:
    """The current tenant's, as django-tenants has it; None where nobody says."""
    return getattr(connections[database()], "schema_name", None)


def schemas() -> list[str]:
    """Those of the database that have a table of uploads; none where there are no schemas."""
    connection = connections[database()]
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname FROM pg_tables WHERE tablename = %s ORDER BY 1",
            [Upload._meta.db_table],
        )
        return [schema for (schema,) in cursor.fetchall()]


def never_atomic(view: _View) -> _View:
    """Decorate a view that waits for S3: no transaction is around it, even with ATOMIC_REQUESTS."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def in_transaction() -> bool:
    blocks = connections[database()].atomic_blocks
    # atomic(durable=True) makes the same exception: for the transaction around a TestCase.
    return bool(blocks) and not getattr(blocks[-1], "_from_testcase", False)


def refuse_transaction(operation: str) -> None:
    if in_transaction():
        raise TransactionManagementError(
            f"{operation}() waits for S3 and must not hold a transaction meanwhile: call it "
            "outside of atomic(), in a view that is lifecycle.never_atomic."
        )


def release_connection() -> None:
    """Give a pooled connection back before S3 is called, so that others can use it."""
    connection = connections[database()]
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
