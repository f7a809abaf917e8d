"""S3's event notifications: by them, uploads complete without the client.

An event is only a hint. S3 sends it at least once and in any order, and most dialects do not sign
it. What it says about an object is not read: ``lifecycle.notice`` asks S3 itself.
"""

from .dialects import Event, parse
from .settling import Tally, settle
from .webhook import webhook

__all__ = ["Event", "Tally", "parse", "settle", "webhook"]
