"""What happens to an upload, from begin to its end. Only this package uses both row and bucket.

No transaction is open while S3 is called. First the row is written, then S3 is called, then one
conditional UPDATE settles the row. A second caller finds the row settled, and answers from it.
"""

from .adopting import DONE, Adoption, adopt
from .batches import begin_many, confirm_many
from .beginning import Begun, begin
from .connection import in_transaction, never_atomic, site
from .erasing import Erasure, InUse, erase
from .holders import holder_of, let_go, name_of, rows_of, share, share_elsewhere, uploads_of
from .holding import accept, open_held, reject
from .operations import cancel, list_parts, notice, store
from .presigning import FIRST_PARTS, presign_download, renew, sign_parts
from .quotas import limited, recount
from .reconciling import Stray, Unnamed, reconcile, unattached, unnamed
from .rows import is_bucket_away
from .settling import confirm
from .sweeping import due, sweep, sweep_batches

__all__ = [
    "DONE",
    "FIRST_PARTS",
    "Adoption",
    "Begun",
    "Erasure",
    "InUse",
    "Stray",
    "Unnamed",
    "accept",
    "adopt",
    "begin",
    "begin_many",
    "cancel",
    "confirm",
    "confirm_many",
    "due",
    "erase",
    "holder_of",
    "in_transaction",
    "is_bucket_away",
    "let_go",
    "limited",
    "list_parts",
    "name_of",
    "never_atomic",
    "notice",
    "open_held",
    "presign_download",
    "reconcile",
    "recount",
    "reject",
    "renew",
    "rows_of",
    "share",
    "share_elsewhere",
    "sign_parts",
    "site",
    "store",
    "sweep",
    "sweep_batches",
    "unattached",
    "unnamed",
    "uploads_of",
]
