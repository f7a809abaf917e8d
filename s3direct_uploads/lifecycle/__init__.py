"""What happens to an upload, from begin to its end: the only place where row and bucket meet.

No transaction is open while S3 is asked. First the row says what is about to happen, then S3 is
asked, then one conditional UPDATE settles the row. A second caller finds the row settled, and
answers from it.
"""

from .connection import never_atomic, site
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
from .settling import confirm, confirm_stored
from .sweeping import due, sweep, sweep_batches

__all__ = [
    "FIRST_PARTS",
    "Stray",
    "begin",
    "cancel",
    "confirm",
    "confirm_stored",
    "due",
    "is_bucket_away",
    "limited",
    "list_parts",
    "never_atomic",
    "notice",
    "presign_download",
    "reconcile",
    "recount",
    "renew",
    "sign_parts",
    "site",
    "store",
    "sweep",
    "sweep_batches",
    "unattached",
]
