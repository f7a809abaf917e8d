"""The sweep settles what clients left behind, deletes objects of tombstones, and prunes rows.

It claims a row by setting its ``due_at`` to a later time. Every other operation sets another
``due_at``, and the sweep changes only rows that still have its own: so it overwrites nothing that
happened meanwhile. A few threads ask S3; they never use the database.
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

from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connections, transaction
from django.db.models import Count, F, ProtectedError, Q, RestrictedError
from django.utils import timezone

from s3direct_uploads import conf, times
from s3direct_uploads.exceptions import (
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

from .connection import database, refuse_transaction, release_connection
from .multipart import wrong_parts
from .rows import Status, bucket_of, move_claimed
from .settling import (
    ANNOUNCE_LEASE,
    announce,
    announce_expired,
    cleaned,
    confirm,
    examine,
    settle,
)

logger = logging.getLogger("s3direct_uploads")

_Answer = TypeVar("_Answer")

BATCH = 1000  # rows claimed at once: the most keys that one DeleteObjects takes
THREADS = 16  # that ask S3
# Longer than a batch takes. If a sweep dies, another one claims its rows after this.
LEASE = timedelta(minutes=15)
MAX_BACK_OFF = timedelta(days=1)
GIVE_UP_AFTER = 5  # failures of a bucket in a row, in one sweep
# Raised when a row is deleted to which a model of the host refers.
REFERRED_TO = (ProtectedError, RestrictedError, IntegrityError)


def sweep(*, limit: int | None = None, destination: str = "") -> Counter[str]:
    """Look at every row that is due: at most ``limit`` rows, and of ``destination`` if it is named.

    Several sweeps may run at once, and each may be killed at any time. Returns how many uploads
    were completed, rejected, expired, announced, cleaned (their objects deleted), pruned (their
    rows deleted), are waiting for their deadline, or failed and will be looked at later.
    """
    return sum(sweep_batches(limit=limit, destination=destination), Counter[str]())


def sweep_batches(*, limit: int | None = None, destination: str = "") -> Iterator[Counter[str]]:
    """As ``sweep``, in batches of at most 1,000 rows. The caller may stop between two batches."""
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
    """How many rows a sweep would look at now: pending, unannounced, uncleaned, unpruned."""
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
    """Claim the next rows that are due. Returns how many were pruned, and the others."""
    now = timezone.now()
    # No other sweep has this time: by it we find what we claimed.
    until = times.later(now, LEASE) + timedelta(microseconds=random.randrange(10**6))  # noqa: S311
    rows = Upload.objects.using(database())
    # Not one UPDATE … WHERE pk IN (SELECT … LIMIT …): PostgreSQL may run the subquery again for
    # each row, and so exceed the limit. SQLite has no row locks: there the UPDATE's conditions
    # protect us.
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
    except Exception:  # A host's model refers to a row (known only at COMMIT), or a handler failed.
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


class _OfOneKey(BucketUnavailable):
    """S3 answers for the bucket, and fails for this one key."""


class _Buckets:
    """The buckets of one sweep. It stops asking a bucket that fails again and again."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Bucket | None] = {}
        self._failures: Counter[Bucket] = Counter()  # two servers may have one name

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
        return None if found is None or self._failures[found] >= GIVE_UP_AFTER else found

    def judge(self, bucket: Bucket, error: BucketUnavailable) -> BucketUnavailable:
        """Whose failure it is. A key's own failure never counts against its bucket."""
        if bucket.is_away():
            self._failures[bucket] += 1
            return error
        self.answered(bucket)
        return _OfOneKey(error.detail)

    def answered(self, bucket: Bucket) -> None:
        self._failures[bucket] = 0

    def is_away(self, bucket: Bucket) -> bool:
        return self._failures[bucket] >= GIVE_UP_AFTER


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

    # One method for each kind of row that is due.

    def _announce(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            # The ones before it may have taken long: another sweep may have claimed it by now.
            if move_claimed([upload], due_at=times.later(timezone.now(), ANNOUNCE_LEASE)):
                with suppress(Upload.DoesNotExist):  # a handler deleted the row
                    announce(upload, "sweep")
                self.done["announced"] += 1

    def _settle(self, uploads: Sequence[Upload]) -> None:
        """Settle each by what S3 has; wait for what may yet come, and give up what cannot."""
        missing: list[Upload] = []
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
                case _OfOneKey():
                    (over if _is_over(upload, asked_at) else failed).append(upload)
                case BaseException():
                    failed.append(upload)
                case _:
                    (over if _was_tried_in_vain(upload, asked_at) else whole).append(upload)
        self._expire(over)
        self._wait(missing)
        self._put_off(failed)
        # Last, because S3 may take minutes to put the parts of each together.
        for upload in whole:
            self._handle(upload, partial(confirm, upload))

    def _handle(self, upload: Upload, operation: Callable[..., object]) -> None:
        """Run an operation that settles this upload, and look after what it leaves pending."""
        asked_at = timezone.now()
        try:
            operation(cause="sweep")
        except BucketUnavailable as error:
            bucket = self.buckets.of(upload)
            judged = error if bucket is None else self.buckets.judge(bucket, error)
            if isinstance(judged, _OfOneKey) and _is_over(upload, asked_at):
                self._expire([upload])
            else:
                self._put_off([upload])
            return
        except HookFailed:  # the object is there, so the upload does not expire
            self._put_off([upload])
            return
        except UploadError:
            pass  # the row says how it was settled, or that parts are missing yet
        except Exception:  # a wrong setting of the host's, say
            logger.exception("The sweep could not confirm the upload %s", upload.pk)
            self._put_off([upload])
            return
        if upload.status == Status.PENDING:
            self._wait([upload])
        else:
            self.done[upload.status] += 1

    def _expire(self, uploads: Sequence[Upload]) -> None:
        now = timezone.now()
        # They are due at once to be cleaned, which aborts their parts.
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
            announce_expired(expired)
            self.done["expired"] += len(expired)

    def _wait(self, uploads: Sequence[Upload]) -> None:
        """Look again when the last request has ended for sure, and then at the deadline."""
        now = timezone.now()
        alike: defaultdict[Any, list[Upload]] = defaultdict(list)
        for upload in uploads:
            # As expressions of the rows' columns, so that one UPDATE serves many rows.
            next_look = {
                upload.expires_at: F("expires_at"),
                upload.key_closes_at: F("url_expires_at")
                + (upload.key_closes_at - upload.url_expires_at),
                # As a value: the column may be NULL by now, if the lease was given back.
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
        self._wait(open_still)  # They were renewed at the last moment.
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
        """Returns the keys whose objects are still there."""
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
            logger.error("S3 would not delete %d objects of %r: %s", count, bucket.name, code)
        return set(refused)

    def _prune(self, uploads: Sequence[Upload]) -> None:
        """One by one, because one of them could not be pruned: a host's model may refer to it."""
        for upload in uploads:
            try:
                self.done["pruned"] += _prune([upload.pk], due_at=upload.due_at)
            except REFERRED_TO:
                move_claimed([upload], due_at=None)
            except Exception:  # a host's handler of pre_delete or post_delete
                logger.exception("The sweep could not prune the upload %s", upload.pk)
                self._put_off([upload])

    # Asking S3.

    def _ask(
        self, question: Callable[[Upload, Bucket], _Answer], uploads: Iterable[Upload]
    ) -> list[tuple[Upload, _Answer | BaseException]]:
        """Ask S3 about many uploads at once. Errors are returned. No thread uses the database."""

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
        away = BucketUnavailable("Its bucket is away.")
        return [(upload, future.result() if future else away) for upload, future in futures]

    def _put_off(self, uploads: Sequence[Upload]) -> None:
        """Look again later: after LEASE, doubled until it is as long as the row has been due."""
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
    """When the row first was due, as far as its columns say."""
    if upload.status == Status.PENDING:
        return upload.url_expires_at + conf.sweep_grace()
    return upload.key_closes_at


def _is_over(upload: Upload, asked_at: datetime) -> bool:
    """Whether nothing could come any more, already when S3 was asked.

    Not while another process completes it: S3 may make the object between two of our questions.
    """
    return max(upload.gives_up_at, upload.busy_until or upload.gives_up_at) <= asked_at


def _was_tried_in_vain(upload: Upload, asked_at: datetime) -> bool:
    """Whether S3 did not say, a day after the upload was over, that it had put its parts together.

    Its answer is lost where a lease is left. Until then it is asked again and again.
    """
    lease_ended = upload.busy_until
    return lease_ended is not None and upload.gives_up_at + MAX_BACK_OFF < lease_ended <= asked_at


def _look(upload: Upload, bucket: Bucket) -> StoredObject | list[StoredPart]:
    """What S3 has at the key: the object, examined, or all the parts of which it can be made."""
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
