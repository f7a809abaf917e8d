"""What happens to an upload, from begin to its end. Only this package uses both row and bucket.

No transaction is open while S3 is called. First the row is written, then S3 is called, then one
conditional UPDATE settles the row. A second caller finds the row settled, and answers from it.
"""

from .connection import never_atomic, site
from .holding import accept, open_object, reject
from .operations import (
    FIRST_PARTS,
    begin,
    cancel,
    list_parts,
    notice,
    presign_download,
    renew,
    sign_parts,
    store,
)
from .quotas import limited, recount
from .reconciling import Stray, reconcile, unattached
from .rows import is_bucket_away
from .settling import confirm
from .sweeping import due, sweep, sweep_batches

__all__ = [
    "FIRST_PARTS",
    "Stray",
    "accept",
    "begin",
    "cancel",
    "confirm",
    "due",
    "is_bucket_away",
    "limited",
    "list_parts",
    "never_atomic",
    "notice",
    "open_object",
    "presign_download",
    "reconcile",
    "recount",
    "reject",
    "renew",
    "sign_parts",
    "site",
    "store",
    "sweep",
    "sweep_batches",
    "unattached",
]
