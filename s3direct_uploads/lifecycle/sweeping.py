"""The sweep: settles what its client left behind, and cleans up what nobody wants any more.

Rows are claimed by pushing ``due_at`` ahead, as a lease; every other operation gives a row another
``due_at``, so what happens to a row meanwhile is never overwritten. S3 is asked by a few threads,
which know nothing of the database.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connections, transaction
from django.db.models import Count, F, ProtectedError, Q, RestrictedError
from django.utils import timezone

from s3direct_uploads import conf, signals
from s3direct_uploads.bucket import Bucket, StoredObject
from s3direct_uploads.exceptions import (
    BucketMisconfigured,
    BucketUnavailable,
    HookFailed,
    MultipartGone,
    ObjectMissing,
    PartsIncomplete,
    UploadError,
)
from s3direct_uploads.models import Upload, UploadQuerySet

from .connection import database, refuse_transaction, release_connection
from .multipart import find_object, wrong_parts
from .rows import Status, bucket_of, move_claimed
from .settling import ANNOUNCE_LEASE, announce, cleaned, confirm, settle_as_expired

logger = logging.getLogger("s3direct_uploads")

_Answer = TypeVar("_Answer")

BATCH = 1000  # rows claimed at once: the most keys that one DeleteObjects takes
THREADS = 16  # that ask S3
# Longer than a batch takes. A sweep that dies has its rows taken up by another after this.
LEASE = timedelta(minutes=15)
MAX_BACK_OFF = timedelta(days=1)
GIVE_UP_AFTER = 5  # failures of a bucket in a row, in one sweep
# What a row that a model of the host's refers to answers to its deletion.
REFERRED_TO = (ProtectedError, RestrictedError, IntegrityError)


def sweep(*, limit: int | None = None, destination: str = "") -> Counter[str]:
    """Look at every row that is due, at most ``limit``, and at no more than one destination's.

    Safe in many processes at once, and to be killed at any time. Returns how many uploads were
    completed, rejected, expired, announced, cleaned (their objects deleted), pruned (their rows
    deleted), are waiting for their deadline, or failed and will be looked at later.
    """
    return sum(sweep_batches(limit=limit, destination=destination), Counter[str]())


def sweep_batches(*, limit: int | None = None, destination: str = "") -> Iterator[Counter[str]]:
    """As ``sweep``, batch by batch, of at most 1,000 rows: between two of them it may be left."""
    refuse_transaction("sweep")
    buckets = _Buckets()
    left = limit
    with ThreadPoolExecutor(THREADS, "s3direct-sweep") as pool:
        while left is None or left > 0:
            pruned, batch = _claim(BATCH if left is None else min(BATCH, left), destination)
            if not pruned and not batch:
                return
            yield _Sweep(batch, buckets, pool).run() + Counter(pruned=pruned)
            if left is not None:
                left -= pruned + len(batch)


def due(destination: str = "") -> Counter[str]:
    """What a sweep would look at now: uploads pending, unannounced, to be cleaned or pruned."""
    tombstone = ~Q(status__in=(Status.PENDING, Status.VERIFYING, Status.COMPLETED))
    found = _due(timezone.now(), destination).aggregate(
        pending=Count("pk", filter=Q(status__in=(Status.PENDING, Status.VERIFYING))),
        unannounced=Count("pk", filter=Q(status=Status.COMPLETED)),
        uncleaned=Count("pk", filter=tombstone & Q(object_deleted_at=None)),
        unpruned=Count("pk", filter=tombstone & Q(object_deleted_at__isnull=False)),
    )
    return Counter(found)


def _due(now: datetime, destination: str) -> UploadQuerySet:
    rows = Upload.objects.using(database()).filter(due_at__lte=now)
    return rows.filter(destination=destination) if destination else rows


def _claim(count: int, destination: str, *, prune: bool = True) -> tuple[int, list[Upload]]:
    """Of the next rows that are due: how many were pruned, and the others, leased."""
    now = timezone.now()
    # A time of its own, by which to find what was claimed.
    until = now + LEASE + timedelta(microseconds=random.randrange(10**6))  # noqa: S311
    rows = Upload.objects.using(database())
    # Not one UPDATE … WHERE pk IN (SELECT … LIMIT …), whose limit PostgreSQL passes where it plans
    # to run the subquery again for each row. SQLite locks nothing: there the conditions count.
    found = _due(now, destination).order_by("due_at").select_for_update(skip_locked=True)
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
    except Exception:  # one is referred to, which PostgreSQL may say as it commits; or a handler
        if not prune:
            raise
        return _claim(count, destination, prune=False)
    return pruned, list(others.filter(due_at=until))


def _prune(pks: Sequence[Any], **unchanged: Any) -> int:
    """All or none."""
    if not pks:
        return 0
    rows = Upload.objects.using(database()).filter(pk__in=pks, **unchanged)
    with transaction.atomic(using=database()):
        _, deleted = rows.filter(object_deleted_at__isnull=False).delete()
    return deleted.get(Upload._meta.label, 0)


class _Buckets:
    """Those of one sweep. What fails again and again is asked no more by it."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Bucket | None] = {}
        self._failures: Counter[str] = Counter()

    def of(self, upload: Upload) -> Bucket | None:
        where = upload.storage, upload.bucket
        if where not in self._found:
            try:
                bucket = bucket_of(upload)
                bucket.probe()
            except (BucketUnavailable, ImproperlyConfigured):
                logger.error(
                    "The sweep leaves out the bucket %r, until the next one", upload.bucket
                )
                self._found[where] = None
            else:
                self._found[where] = bucket
        found = self._found[where]
        return None if found is None or self._failures[found.name] >= GIVE_UP_AFTER else found

    def heard(self, bucket: Bucket, error: BaseException | None) -> None:
        if not isinstance(error, BucketUnavailable):
            self._failures[bucket.name] = 0
        elif not isinstance(error, BucketMisconfigured):  # which is of this key: we probed
            self._failures[bucket.name] += 1

    def is_away(self, bucket: Bucket) -> bool:
        return self._failures[bucket.name] >= GIVE_UP_AFTER


class _Sweep:
    """One batch."""

    def __init__(
        self, batch: Sequence[Upload], buckets: _Buckets, pool: ThreadPoolExecutor
    ) -> None:
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
        return self.done

    # What each kind of row is due for.

    def _announce(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            # Those before it may have taken long: another sweep has it by now, or it was deleted.
            if move_claimed([upload], due_at=timezone.now() + ANNOUNCE_LEASE):
                with suppress(Upload.DoesNotExist):  # a handler that had no more use for the row
                    announce(upload, "sweep")
                self.done["announced"] += 1

    def _settle(self, uploads: Sequence[Upload]) -> None:
        """Confirm what is there; give up what is not, once it cannot come any more."""
        missing: list[Upload] = []
        whole: list[Upload] = []
        asked_at = timezone.now()
        for upload, answer in self._ask(_look, uploads):
            if isinstance(answer, (ObjectMissing, MultipartGone)):
                missing.append(upload)
            elif isinstance(answer, BaseException):
                self._put_off([upload])
            elif answer is None:
                whole.append(upload)
            else:
                self._confirm(upload, _answering(answer))
        # Not by now: what was missing then may have come since. Nor while another completes it:
        # between our two questions S3 may have made the object of the parts.
        over = [
            upload
            for upload in missing
            if max(upload.gives_up_at, upload.busy_until or upload.gives_up_at) <= asked_at
        ]
        self._expire(over)
        given_up = set(over)
        self._wait([upload for upload in missing if upload not in given_up])
        # Last, for S3 may take minutes to put the parts of each together.
        for upload in whole:
            self._confirm(upload)

    def _confirm(
        self, upload: Upload, look: Callable[[Upload], StoredObject | None] = find_object
    ) -> None:
        try:
            confirm(upload, cause="sweep", look=look)
        except (ObjectMissing, MultipartGone):
            if upload.status == Status.PENDING:
                self._wait([upload])
        except (BucketUnavailable, HookFailed):  # of the latter for ever, for the object is there
            self._put_off([upload])
        except UploadError:
            pass  # settled, if not as its owner had hoped
        except Exception:  # a wrong setting of the host's, say
            logger.exception("The sweep could not confirm the upload %s", upload.pk)
            self._put_off([upload])
        else:
            if upload.status == Status.PENDING:  # another process completes it
                self._wait([upload])
        if upload.status != Status.PENDING:
            self.done[upload.status] += 1

    def _expire(self, uploads: Sequence[Upload]) -> None:
        now = timezone.now()
        idle = [upload for upload in uploads if upload.busy_until is None]
        unchanged = {"status": Status.PENDING, "busy_until": None}
        expired = move_claimed(idle, unchanged, status=Status.EXPIRED, due_at=now)
        for upload in expired:
            signals.upload_expired.send_robust(Upload, upload=upload)
        self.done["expired"] += len(expired)
        # Their parts are aborted as they are cleaned, which they are due for from now on.
        for upload in uploads:
            if upload.busy_until is not None:
                settle_as_expired(upload, "sweep")
                self.done[upload.status] += 1

    def _wait(self, uploads: Sequence[Upload]) -> None:
        """Until the last request can have ended, and then until the deadline."""
        now = timezone.now()
        alike: defaultdict[Any, list[Upload]] = defaultdict(list)
        for upload in uploads:
            # In the rows' own terms, so that one UPDATE does for many.
            next_look = {
                upload.expires_at: F("expires_at"),
                upload.key_closes_at: F("url_expires_at")
                + (upload.key_closes_at - upload.url_expires_at),
                # Not so this one: whoever has the lease may have given it back, and left a NULL.
                upload.busy_until or now: upload.busy_until,
            }
            ahead = min((when for when in next_look if when > now), default=None)
            alike[now + LEASE if ahead is None else next_look[ahead]].append(upload)
        for due_at, these in alike.items():
            move_claimed(these, due_at=due_at)
        self.done["waiting"] += len(uploads)

    def _clean(self, uploads: Sequence[Upload]) -> None:
        """Delete the objects of tombstones, and what is left of their parts."""
        now = timezone.now()
        open_still = [upload for upload in uploads if upload.key_closes_at > now]
        self._wait(open_still)  # renewed at their last moment
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
        """The keys that are still there."""
        keys = [upload.key for upload in uploads]
        if bucket is None:
            return set(keys)
        release_connection()
        try:
            refused = bucket.delete_all(keys)
        except BucketUnavailable as error:
            self.buckets.heard(bucket, error)
            return set(keys)
        for code, count in Counter(refused.values()).items():
            logger.error("S3 would not delete %d objects of %r: %s", count, bucket.name, code)
        return set(refused)

    def _prune(self, uploads: Sequence[Upload]) -> None:
        """One by one: one of them could not be, maybe for a model of the host's refers to it."""
        for upload in uploads:
            try:
                self.done["pruned"] += _prune([upload.pk], due_at=upload.due_at)
            except REFERRED_TO:
                move_claimed([upload], due_at=None)
            except Exception:  # a host's handler of its deletion
                logger.exception("The sweep could not prune the upload %s", upload.pk)
                self._put_off([upload])

    # Asking S3.

    def _ask(
        self, question: Callable[[Upload, Bucket], _Answer], uploads: Iterable[Upload]
    ) -> list[tuple[Upload, _Answer | BaseException]]:
        """Of many at once; an error is an answer. No thread sees the database."""

        def ask(upload: Upload, bucket: Bucket) -> _Answer | BaseException:
            if self.buckets.is_away(bucket):
                return BucketUnavailable("Not asked: S3 has failed too often.")
            try:
                answer: _Answer | BaseException = question(upload, bucket)
            except Exception as error:
                answer = error
            self.buckets.heard(bucket, answer if isinstance(answer, BaseException) else None)
            return answer

        asked = [(upload, self.buckets.of(upload)) for upload in uploads]
        release_connection()
        futures = [
            (upload, self.pool.submit(ask, upload, bucket) if bucket else None)
            for upload, bucket in asked
        ]
        away = BucketUnavailable("Its bucket is away.")
        return [(upload, future.result() if future else away) for upload, future in futures]

    def _put_off(self, uploads: Sequence[Upload]) -> None:
        """For as long again as they have been due, in powers of two: one UPDATE for many."""
        now = timezone.now()
        by_delay: defaultdict[timedelta, list[Upload]] = defaultdict(list)
        for upload in uploads:
            delay = LEASE
            while delay < min(now - _due_since(upload), MAX_BACK_OFF):
                delay *= 2
            by_delay[min(delay, MAX_BACK_OFF)].append(upload)
        for delay, alike in by_delay.items():
            move_claimed(alike, due_at=now + delay)
        self.done["failed"] += len(uploads)


def _kind(upload: Upload) -> str:
    match upload.status:
        case Status.PENDING | Status.VERIFYING:
            return "pending"
        case Status.COMPLETED:
            return "unannounced"
    return "uncleaned" if upload.object_deleted_at is None else "unpruned"


def _due_since(upload: Upload) -> datetime:
    """When it first was, as far as the row says."""
    if upload.status == Status.PENDING:
        return upload.url_expires_at + conf.sweep_grace()
    return upload.key_closes_at


def _look(upload: Upload, bucket: Bucket) -> StoredObject | None:
    """What S3 has at the key; None if it has all the parts, to be put together."""
    try:
        return bucket.head(upload.key)
    except ObjectMissing:
        if not upload.is_multipart or not upload.multipart_upload_id:
            raise
    wrong = wrong_parts(upload, bucket.list_parts(upload.key, upload.multipart_upload_id))
    if wrong:
        raise PartsIncomplete(wrong)
    return None


def _answering(stored: StoredObject) -> Callable[[Upload], StoredObject]:
    return lambda _: stored


def _abort(upload: Upload, bucket: Bucket) -> None:
    bucket.abort_multiparts(upload.key)
