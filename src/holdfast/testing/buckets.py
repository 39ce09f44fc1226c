"""Work on a bucket that goes on beside sweeps and moves."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from holdfast.core.bucket import Bucket
from holdfast.core.errors import UnavailableError


def insist(put: Callable[[], object]) -> None:
    """Put until the bytes are not swept before they have their name."""
    while True:
        with suppress(UnavailableError):
            put()
            return


def come_and_go(bucket: Bucket, blobs: Sequence[bytes], thread: int, rounds: int) -> None:
    """Give a few names the same few contents again and again, and take every other one away."""
    for number in range(rounds):
        data = blobs[(thread + number) % len(blobs)]
        key = f"{thread}-{number % 3}"
        insist(partial(bucket.put, key, data))
        assert bucket.get(key) == data
        if number % 2:
            bucket.delete(key)
