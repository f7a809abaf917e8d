"""The database connection: which it is, and that nothing holds it while S3 is waited for."""

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
    # Of the replicas none may have seen the last UPDATE yet.
    return router.db_for_write(Upload)


def site() -> str:
    """Whose keys are ours: those of this site, of its database, and of the current tenant's schema.

    Where one of them changes, the keys from before are not proven ours any more, and left alone.
    """
    connection = connections[database()]
    schema = getattr(connection, "schema_name", "")  # django-tenants has it
    return json.dumps([conf.site(), str(connection.settings_dict["NAME"]), schema])


def never_atomic(view: _View) -> _View:
    """For a view that calls what waits for S3: no transaction around it, ATOMIC_REQUESTS or not."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def refuse_transaction(operation: str) -> None:
    blocks = connections[database()].atomic_blocks
    # As atomic(durable=True) does, which allows for the transaction around a TestCase.
    if blocks and not getattr(blocks[-1], "_from_testcase", False):
        raise TransactionManagementError(
            f"{operation}() waits for S3 and must not hold a transaction meanwhile: call it "
            "outside of atomic(), in a view that is lifecycle.never_atomic."
        )


def release_connection() -> None:
    """Give a pooled connection back before S3 is waited for: others have use for it."""
    connection = connections[database()]
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
