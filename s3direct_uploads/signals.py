"""Signals, sent after the row is settled. If a handler raises, the error is only logged.

``upload_completed(sender=Upload, upload=, cause=)``
    ``cause`` says who noticed the completion: "client", "event", "sweep" or "store". If a scan held
    the upload, it says who accepted it: "scan", or what was passed to ``accept``. If the process
    dies before the handlers ran, a sweep sends the signal later, unless the upload was deleted by
    then. So a handler may run twice for one upload: if the process died inside the handlers, or
    after them before the row was updated, or if the handlers ran for more than five minutes.
    Only the handlers of the process that noticed the completion run: connect yours in
    ``AppConfig.ready``, so that web processes and workers have them.
``upload_held(sender=Upload, upload=, cause=)``
    Start your scan. It answers by ``lifecycle.accept(upload)`` or ``lifecycle.reject(upload,
    reason)``. Until it answers, a sweep sends this signal again (``HOLD_RETRY``). So a handler runs
    at least once, and may run several times. ``cause`` is as above.
``upload_rejected``, ``upload_expired``, ``upload_cancelled`` ``(sender=Upload, upload=)``
    Sent at most once. The signal is lost if the process dies at that moment.
"""

from django.dispatch import Signal

upload_completed = Signal()
upload_held = Signal()
upload_rejected = Signal()
upload_expired = Signal()
upload_cancelled = Signal()
