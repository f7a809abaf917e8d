"""The sweep settles abandoned uploads, deletes the objects of tombstones, and prunes rows.

It claims a row by setting its ``due_at`` to a later time. Every other operation sets a different
``due_at``. The sweep changes only rows that still have the ``due_at`` of its claim, so it
overwrites nothing that happened meanwhile. A few threads call S3; they never use the database.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from django.db import IntegrityError, connections, transaction
from django.db.models import Count, F, ProtectedError, Q, RestrictedError
from django.utils import timezone

from s3direct_uploads import conf, signals, times
from s3direct_uploads.exceptions import (
    AnswerLost,
    BucketUnavailable,
    HookFailed,
    MultipartGone,
    ObjectMismatch,
    ObjectMissing,
    PartsIncomplete,
    UploadError,
)
from s3direct_uploads.models import Upload, UploadQuerySet
from s3direct_uploads.s3 import Bucket, StoredObject, StoredPart

from . import holding
from .bucket_failures import Buckets, OfOneKey
from .connection import database, refuse_transaction, release_connection
from .multipart import wrong_parts
from .rows import Status, give_back, move_claimed
from .settling import (
    ANNOUNCE_LEASE,
    announce,
    cleaned,
    confirm,
    examine,
    settle,
)

logger = logging.getLogger("s3direct_uploads")

_Answer = TypeVar("_Answer")

BATCH = 1000  # rows claimed at once: the most keys that one DeleteObjects takes
THREADS = 16  # for requests to S3
# Longer than a batch takes. If a sweep dies, another one claims its rows after this time.
LEASE = timedelta(minutes=15)
MAX_BACK_OFF = timedelta(days=1)
# Django raises these if a row is deleted and a row of the host's models refers to it.
REFERRED_TO = (ProtectedError, RestrictedError, IntegrityError)


def sweep(*, limit: int | None = None, destination: str = "", owner: Any = None) -> Counter[str]:
    """Handle the rows that are due: at most ``limit``, and only of ``destination`` if it is given.

    ``owner`` is the primary key of a user, if only this user's uploads are handled.

    Several sweeps may run at once, and each may be killed at any time. Returns how many uploads
    were "completed", "rejected", "expired", "announced", "cleaned" (their objects were deleted) and
    "pruned" (their rows were deleted), how many are "verifying" (a scan holds them now) and
    "reminded" (their scan was asked for again), how many are "waiting" for their deadline, and how
    many "failed" and will be tried again later.
    """
    batches = sweep_batches(limit=limit, destination=destination, owner=owner)
    return sum(batches, Counter[str]())


def sweep_batches(
    *, limit: int | None = None, destination: str = "", owner: Any = None
) -> Iterator[Counter[str]]:
    """As ``sweep``, but yield the counts of each batch of at most 1,000 rows.

    The caller may stop between two batches.
    """
    refuse_transaction("sweep")
    buckets = Buckets()
    left = limit
    with ThreadPoolExecutor(THREADS, "s3direct-sweep") as pool:
        while left is None or left > 0:
            count = BATCH if left is None else min(BATCH, left)
            pruned, batch = _claim(count, destination, owner)
            if not pruned and not batch:
                return
            yield _Sweep(batch, buckets, pool).run() + Counter(pruned=pruned)
            if left is not None:
                left -= pruned + len(batch)


def due(destination: str = "") -> Counter[str]:
    """How many rows are due now, by what a sweep has to do with them: "pending", "uncleaned" …"""
    tombstone = ~Q(status__in=(Status.PENDING, Status.VERIFYING, Status.COMPLETED))
    found = _due(timezone.now(), destination).aggregate(
        pending=Count("pk", filter=Q(status=Status.PENDING)),
        unscanned=Count("pk", filter=Q(status=Status.VERIFYING)),
        unannounced=Count("pk", filter=Q(status=Status.COMPLETED)),
        uncleaned=Count("pk", filter=tombstone & Q(object_deleted_at=None)),
        unpruned=Count("pk", filter=tombstone & Q(object_deleted_at__isnull=False)),
    )
    return Counter(found)


def _due(now: datetime, destination: str, owner: Any = None) -> UploadQuerySet:
    rows = Upload.objects.using(database()).filter(due_at__lte=now)
    rows = rows if owner is None else rows.filter(owner=owner)
    return rows.filter(destination=destination) if destination else rows


def _claim(
    count: int, destination: str, owner: Any = None, *, prune: bool = True
) -> tuple[int, list[Upload]]:
    """Claim the next rows that are due. Returns how many were pruned, and the other rows."""
    now = timezone.now()
    # Random microseconds make this time ours alone, so that it identifies the rows that we claim.
    until = times.later(now, LEASE) + timedelta(microseconds=random.randrange(10**6))  # noqa: S311
    rows = Upload.objects.using(database())
    # Not one UPDATE … WHERE pk IN (SELECT … LIMIT …): PostgreSQL may run the subquery again for
    # each row, and so exceed the limit. SQLite has no row locks; there the conditions of the UPDATE
    # are enough.
    found = _due(now, destination, owner).order_by("due_at").select_for_update(skip_locked=True)
    locks = connections[database()].features.has_select_for_update
    try:
        with transaction.atomic(using=database()) if locks else nullcontext():
            next_rows = dict(found.values_list("pk", "object_deleted_at")[:count])
            over = [pk for pk, deleted_at in next_rows.items() if deleted_at and prune]
            pruned = _prune(over, due_at__lte=now)
            others = rows.filter(pk__in=next_rows.keys() - set(over))
            if len(over) == len(next_rows) or not others.filter(due_at__lte=now).update(
                due_at=until
            ):
                return pruned, []
    except Exception:  # A host's model refers to a row (COMMIT reports it), or a handler failed.
        if not prune:
            raise
        return _claim(count, destination, owner, prune=False)
    return pruned, list(others.filter(due_at=until))


def _prune(pks: Sequence[Any], **unchanged: Any) -> int:
    """Delete all of these rows or none of them. Returns how many were deleted."""
    if not pks:
        return 0
    rows = Upload.objects.using(database()).filter(pk__in=pks, **unchanged)
    with transaction.atomic(using=database()):
        _, deleted = rows.filter(object_deleted_at__isnull=False).delete()
    return deleted.get(Upload._meta.label, 0)


class _Sweep:
    """One batch."""

    def __init__(self, batch: Sequence[Upload], buckets: Buckets, pool: ThreadPoolExecutor) -> None:
        self.batch, self.buckets, self.pool = batch, buckets, pool
        self.done: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        kinds: defaultdict[str, list[Upload]] = defaultdict(list)
        for upload in self.batch:
            kinds[_kind(upload)].append(upload)
        self._prune(kinds["unpruned"])
        self._clean(kinds["uncleaned"])
        self._announce(kinds["unannounced"])
        self._settle(kinds["pending"])
        self._hold(kinds["unscanned"])
        return self.done

    # One method for each kind of row that is due.

    def _announce(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            # The handlers of earlier uploads may have run long. Has another sweep claimed this one?
            if move_claimed([upload], due_at=times.later(timezone.now(), ANNOUNCE_LEASE)):
                with suppress(Upload.DoesNotExist):  # a handler deleted the row
                    announce(upload, "sweep")
                self.done["announced"] += 1

    def _hold(self, uploads: Sequence[Upload]) -> None:
        """Ask for the scans that did not answer, and reject what was not scanned in time."""
        now = timezone.now()
        over = [upload for upload in uploads if upload.hold_ends_at <= now]
        self.done["rejected"] += len(holding.give_up(over))
        for upload in uploads:
            if upload.hold_ends_at > now:
                self.done["reminded"] += holding.ask_again(upload)

    def _settle(self, uploads: Sequence[Upload]) -> None:
        """Settle each row by what S3 has. Without an object, wait for it or expire the row."""
        missing: list[Upload] = []
        failing: list[Upload] = []
        failed: list[Upload] = []
        over: list[Upload] = []
        whole: list[Upload] = []
        asked_at = timezone.now()
        for upload, answer in self._ask(_look, uploads):
            match answer:
                case StoredObject() | ObjectMismatch():
                    self._handle(upload, partial(settle, upload, answer, asked_at=asked_at))
                case ObjectMissing() | MultipartGone():
                    (over if _is_over(upload, asked_at) else missing).append(upload)
                case OfOneKey():
                    is_over = _is_over(upload, asked_at) and _has_failed_long(upload, asked_at)
                    (over if is_over else failing).append(upload)
                case BaseException():
                    failed.append(upload)
                case _:
                    whole.append(upload)
        self._expire(over)
        self._wait(missing)
        self._put_off(failing, key_fails=True)
        self._put_off(failed)
        # Last, because S3 may take minutes to join the parts of each file.
        for upload in whole:
            self._handle(upload, partial(confirm, upload))

    def _handle(self, upload: Upload, operation: Callable[..., object]) -> None:
        """Run an operation that settles this upload. Set a new ``due_at`` if it stays pending."""
        asked_at = timezone.now()
        try:
            operation(cause="sweep")
        except BucketUnavailable as error:
            bucket = self.buckets.of(upload)
            judged = error if bucket is None else self.buckets.judge(bucket, error)
            key_fails = isinstance(judged, OfOneKey)
            if key_fails and _has_failed_long(upload, asked_at):
                if isinstance(error, AnswerLost):
                    give_back(upload)  # the lease of this operation
                self._expire([upload])
            else:
                self._put_off([upload], key_fails=key_fails)
            return
        except HookFailed:  # the object is there, so the upload does not expire
            self._put_off([upload])
            return
        except UploadError:
            pass  # the row says how it was settled, or that parts are still missing
        except Exception:  # for example, a wrong setting of the host
            logger.exception("The sweep could not confirm the upload %s", upload.pk)
            self._put_off([upload])
            return
        if upload.status == Status.PENDING:
            self._wait([upload])
        else:
            self.done[upload.status] += 1

    def _expire(self, uploads: Sequence[Upload]) -> None:
        now = timezone.now()
        # They are due again at once, so that their parts are aborted.
        changes: dict[str, Any] = {
            "status": Status.EXPIRED,
            "due_at": now,
            "busy_until": None,
        }
        idle = [upload for upload in uploads if upload.busy_until is None]
        leased = [upload for upload in uploads if upload.busy_until is not None]
        for these, lease_is_over in (
            (idle, {"busy_until": None}),
            (leased, {"busy_until__lt": now}),
        ):
            unchanged = {"status": Status.PENDING, **lease_is_over}
            expired = move_claimed(these, unchanged, **changes)
            for upload in expired:
                signals.upload_expired.send_robust(Upload, upload=upload)
            self.done["expired"] += len(expired)

    def _wait(self, uploads: Sequence[Upload]) -> None:
        """Set ``due_at`` to when no request can be running any more, or to the deadline."""
        now = timezone.now()
        alike: defaultdict[Any, list[Upload]] = defaultdict(list)
        for upload in uploads:
            # As expressions of columns, so that one UPDATE can change many rows.
            next_look = {
                upload.expires_at: F("expires_at"),
                upload.key_closes_at: F("url_expires_at")
                + (upload.key_closes_at - upload.url_expires_at),
                # A value, because the column may be NULL now: the lease may be given back.
                upload.busy_until or now: upload.busy_until,
            }
            ahead = min((when for when in next_look if when > now), default=None)
            alike[now + LEASE if ahead is None else next_look[ahead]].append(upload)
        for due_at, these in alike.items():
            move_claimed(these, due_at=due_at)
        self.done["waiting"] += len(uploads)

    def _clean(self, uploads: Sequence[Upload]) -> None:
        """Delete the objects of tombstones, and abort their multipart uploads."""
        now = timezone.now()
        open_still = [upload for upload in uploads if upload.key_closes_at > now]
        self._wait(open_still)  # these were renewed at the last moment
        clean: set[Upload] = set()
        closed = [upload for upload in uploads if upload.key_closes_at <= now]
        parts = [upload for upload in closed if upload.is_multipart]
        failed = {
            upload.pk
            for upload, answer in self._ask(_abort, parts)
            if isinstance(answer, BaseException)
        }
        by_bucket: defaultdict[Bucket | None, list[Upload]] = defaultdict(list)
        for upload in closed:
            by_bucket[self.buckets.of(upload)].append(upload)
        for bucket, theirs in by_bucket.items():
            refused = self._delete(bucket, theirs)
            clean |= {u for u in theirs if u.key not in refused and u.pk not in failed}
        self._put_off([upload for upload in closed if upload not in clean])
        by_change: defaultdict[bool, list[Upload]] = defaultdict(list)
        for upload in clean:
            by_change["object_deleted_at" in cleaned(upload, now)].append(upload)
        for alike in by_change.values():
            self.done["cleaned"] += len(move_claimed(alike, **cleaned(alike[0], now)))

    def _delete(self, bucket: Bucket | None, uploads: Sequence[Upload]) -> set[str]:
        """Delete the objects of these rows. Returns the keys whose objects are still there."""
        keys = [upload.key for upload in uploads]
        if bucket is None:
            return set(keys)
        release_connection()
        try:
            refused = bucket.delete_all(keys)
        except BucketUnavailable as error:
            self.buckets.judge(bucket, error)
            return set(keys)
        for code, count in Counter(refused.values()).items():
            logger.error("S3 did not delete %d objects of %r: %s", count, bucket.name, code)
        return set(refused)

    def _prune(self, uploads: Sequence[Upload]) -> None:
        """Prune rows one by one. Together it failed: a host's model may refer to one of them."""
        for upload in uploads:
            try:
                self.done["pruned"] += _prune([upload.pk], due_at=upload.due_at)
            except REFERRED_TO:
                move_claimed([upload], due_at=None)
            except Exception:  # a handler of the host for pre_delete or post_delete
                logger.exception("The sweep could not prune the upload %s", upload.pk)
                self._put_off([upload])

    # Requests to S3.

    def _ask(
        self, question: Callable[[Upload, Bucket], _Answer], uploads: Iterable[Upload]
    ) -> list[tuple[Upload, _Answer | BaseException]]:
        """Ask S3 about many uploads in parallel. Return errors. No thread uses the database."""

        def ask(upload: Upload, bucket: Bucket) -> _Answer | BaseException:
            if self.buckets.is_away(bucket):
                return BucketUnavailable("Not asked: S3 has failed too often.")
            try:
                answer: _Answer | BaseException = question(upload, bucket)
            except BucketUnavailable as error:
                return self.buckets.judge(bucket, error)
            except UploadError as error:
                answer = error
            except Exception as error:
                logger.exception("The sweep could not ask S3 about the upload %s", upload.pk)
                answer = error
            self.buckets.answered(bucket)
            return answer

        asked = [(upload, self.buckets.of(upload)) for upload in uploads]
        release_connection()
        futures = [
            (upload, self.pool.submit(ask, upload, bucket) if bucket else None)
            for upload, bucket in asked
        ]
        away = BucketUnavailable("Its bucket cannot be reached.")
        return [(upload, future.result() if future else away) for upload, future in futures]

    def _put_off(self, uploads: Sequence[Upload], *, key_fails: bool = False) -> None:
        """Set a later ``due_at``. The longer a row has been due, the longer is the delay.

        ``key_fails`` if S3 failed for these keys alone. The rows note when it did so first.
        """
        now = timezone.now()
        alike: defaultdict[tuple[timedelta, datetime | None], list[Upload]] = defaultdict(list)
        for upload in uploads:
            delay = LEASE
            while delay < min(now - _due_since(upload), MAX_BACK_OFF):
                delay *= 2
            fails_now = key_fails and upload.gives_up_at <= now
            since = upload.failing_since or (now if fails_now else None)
            alike[min(delay, MAX_BACK_OFF), since].append(upload)
        for (delay, since), these in alike.items():
            move_claimed(these, due_at=now + delay, failing_since=since)
        self.done["failed"] += len(uploads)


def _kind(upload: Upload) -> str:
    match upload.status:
        case Status.PENDING:
            return "pending"
        case Status.VERIFYING:
            return "unscanned"
        case Status.COMPLETED:
            return "unannounced"
    return "uncleaned" if upload.object_deleted_at is None else "unpruned"


def _due_since(upload: Upload) -> datetime:
    """When the row was due for the first time, as far as its columns tell."""
    if upload.status == Status.PENDING:
        return upload.url_expires_at + conf.sweep_grace()
    return upload.key_closes_at


def _is_over(upload: Upload, asked_at: datetime) -> bool:
    """Whether no object could arrive any more at the time when S3 was asked.

    False while another process completes the upload, because S3 may just be making the object.
    """
    return max(upload.gives_up_at, upload.busy_until or upload.gives_up_at) <= asked_at


def _has_failed_long(upload: Upload, asked_at: datetime) -> bool:
    """Whether a sweep, at least a day ago, saw S3 fail for this key after the deadline.

    A sweep that was killed proves nothing, and neither does a lease that it left.
    """
    since = upload.failing_since
    return since is not None and since + MAX_BACK_OFF <= asked_at


def _look(upload: Upload, bucket: Bucket) -> StoredObject | list[StoredPart]:
    """What S3 has at the key: the object, examined, or all the parts from which it can be made."""
    try:
        stored = bucket.head(upload.key)
    except ObjectMissing:
        if not upload.is_multipart or not upload.multipart_upload_id:
            raise
    else:
        examine(upload, stored, bucket)
        return stored
    parts = bucket.list_parts(upload.key, upload.multipart_upload_id)
    wrong = wrong_parts(upload, parts)
    if wrong:
        raise PartsIncomplete(wrong)
    return parts


def _abort(upload: Upload, bucket: Bucket) -> None:
    bucket.abort_multiparts(upload.key)
