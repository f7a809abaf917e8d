"""The viewset, which a host may subclass; the answers for errors; the limits of a request."""

from .errors import handle_exception
from .parsing import RequestTooLarge
from .viewset import NewestFirst, UploadViewSet

__all__ = [
    "NewestFirst",
    "RequestTooLarge",
    "UploadViewSet",
    "handle_exception",
]
