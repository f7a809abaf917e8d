"""Ten thousand part URLs, by Bucket.presign_parts and by botocore."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

from s3direct_uploads.s3 import Bucket, get_bucket

from .profiled import bound_by
from .report import Benchmark, Line, middle, say

PARTS, PAIRS = 10_000, 5
PART_SIZE = 525 * 1024**2  # bytes: of 5 TiB in as many parts
KEY, UPLOAD_ID = "films/2f0c6a1e7b/film.mp4", "2~cZr5OYh0nUJt3lKMf2N9dGqT8xVbS1w"
EXPIRES = timedelta(hours=1)


def run() -> Benchmark:
    bucket = get_bucket("default")
    with same_moment():
        assert ours(bucket) == botocores(bucket), "The URLs differ."
    pairs = []
    for number in range(PAIRS):
        pairs.append((seconds(ours, bucket), seconds(botocores, bucket)))
        say(f"signing {number + 1}/{PAIRS}: {pairs[-1][0]:.3f} s, botocore {pairs[-1][1]:.3f} s")
    ratios = [theirs / mine for mine, theirs in pairs]
    mine, theirs = zip(*pairs, strict=True)
    return Benchmark(
        f"Signing {PARTS:,} part URLs",
        "`Bucket.presign_parts`, in one call, and botocore's `generate_presigned_url`, called for "
        "each part by the same client. With the clock held the two lists are equal, byte for byte: "
        "that is asserted first.",
        [
            Line("`presign_parts`", middle(mine, ".3f", " s")),
            Line("botocore", middle(theirs, ".2f", " s")),
            Line(
                f"{PARTS:,} part URLs: botocore's time ÷ ours",
                f"{middle(ratios, '.1f')}, {PAIRS} pairs",
                "≥ 20",
                sorted(ratios)[PAIRS // 2] >= 20,
                10,
                "botocore",
                "" if sorted(ratios)[PAIRS // 2] >= 20 else bound_by(partial(ours, bucket)),
            ),
        ],
    )


def ours(bucket: Bucket) -> list[str]:
    sizes = dict.fromkeys(range(1, PARTS + 1), PART_SIZE)
    return [part.url for part in bucket.presign_parts(KEY, UPLOAD_ID, sizes, expires=EXPIRES)]


def botocores(bucket: Bucket) -> list[str]:
    common = {"Bucket": bucket.name, "Key": KEY, "UploadId": UPLOAD_ID, "ContentLength": PART_SIZE}
    return [
        bucket._client.generate_presigned_url(
            "upload_part",
            Params={**common, "PartNumber": number},
            ExpiresIn=int(EXPIRES.total_seconds()),
        )
        for number in range(1, PARTS + 1)
    ]


def seconds(sign: Callable[[Bucket], list[str]], bucket: Bucket) -> float:
    start = time.perf_counter()
    sign(bucket)
    return time.perf_counter() - start


@contextmanager
def same_moment() -> Iterator[None]:
    moment = datetime.now(UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return moment.astimezone(tz)

    with ExitStack() as patches:
        naive = moment.replace(tzinfo=None)
        patches.enter_context(patch("botocore.auth.get_current_datetime", lambda: naive))
        patches.enter_context(patch("s3direct_uploads.s3.signing.datetime", Clock))
        yield
