"""The admin for support staff: find uploads quickly, and see what happened. Nothing can be edited.

It is made for ten million rows: no query counts all of them, and every search can use an index.
"""

from .uploads import UploadAdmin, UsageAdmin

__all__ = ["UploadAdmin", "UsageAdmin"]
