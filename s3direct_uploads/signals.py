"""Sent after the row is settled, by ``send_robust``: a handler that raises is logged, no more.

``upload_completed(sender=Upload, upload=, cause=)``
    ``cause`` is who noticed: "client", "event", "sweep" or "store"; of an upload that was held,
    who accepted it: "scan", or what was passed to ``accept``. Where a process dies before its
    handlers ran, the row is due to be announced again, by a sweep; unless it was deleted by then.
    So a handler may run twice for one upload, if the process died inside the handlers, or right
    after them before the row said so, or if they ran for longer than five minutes.
``upload_held(sender=Upload, upload=, cause=)``
    Start your scan: its answer is ``lifecycle.accept(upload)`` or ``lifecycle.reject(upload,
    reason)``. While none comes, a sweep sends this again (``HOLD_RETRY``), so a handler runs at
    least once, and may run several times. ``cause`` is as above.
``upload_rejected``, ``upload_expired``, ``upload_cancelled`` ``(sender=Upload, upload=)``
    Sent once, and lost where the process dies at that moment.
"""

from django.dispatch import Signal

upload_completed = Signal()
upload_held = Signal()
upload_rejected = Signal()
upload_expired = Signal()
upload_cancelled = Signal()
