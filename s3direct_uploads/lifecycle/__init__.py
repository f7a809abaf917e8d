"""What happens to an upload, from begin to its end: the only place where row and bucket meet.

S3 is never asked from within a transaction. The row says what is about to be, S3 is asked, and one
conditional UPDATE settles it; who comes second finds the row settled, and answers from it.
"""

from .connection import never_atomic, site
from .operations import (
    FIRST_PARTS,
    begin,
    cancel,
    is_safe_inline,
    list_parts,
    notice,
    presign_download,
    renew,
    sign_parts,
    store,
)
from .quotas import limited, recount
from .reconciling import Stray, reconcile, unattached
from .settling import confirm
from .sweeping import due, sweep, sweep_batches

__all__ = [
    "FIRST_PARTS",
    "Stray",
    "begin",
    "cancel",
    "confirm",
    "due",
    "is_safe_inline",
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
