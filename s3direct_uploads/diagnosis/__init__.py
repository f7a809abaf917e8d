"""The questions that are asked of a live bucket, and what each answer means.

A reader needs no knowledge of S3 or CORS: each finding says what is wrong and what to do.
Requests of a client are sent as a client sends them, by plain HTTP. Requests of the server are sent
by the server's own S3 client. Nothing stays in the bucket: what could not be deleted again is not
put there.
"""

from .findings import FAIL, PASS, WARN, Finding
from .report import diagnose

__all__ = ["FAIL", "PASS", "WARN", "Finding", "diagnose"]
