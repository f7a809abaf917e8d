"""The processes of the soak: Django's, as its own host, and the clients'."""

from __future__ import annotations

import random

PART_SIZE = 5 * 1024**2  # the smallest that S3 takes, of all parts but the last


def in_parts(seed: str, number: int) -> bool:
    return random.Random(f"{seed} parts {number}").random() < 0.12


def body_of(seed: str, number: int) -> bytes:
    """What the upload of this number is to hold: no two are the same."""
    chance = random.Random(f"{seed} body {number}")
    tail = chance.randbytes(chance.randint(1, 3000))
    return chance.randbytes(64) * (PART_SIZE // 64) + tail if in_parts(seed, number) else tail
