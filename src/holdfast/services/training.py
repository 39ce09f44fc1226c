"""Training: a dictionary out of the small blobs of a store, and what it gains.

Blobs are taken in the order of their digests, which is no order, so that the first of them stand
for all. Every fifth is kept apart, to try the dictionary on what it was not made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.errors import BlobError, InvalidError
from holdfast.core.many import outcome, paged, read_all
from holdfast.stores.compressed import Compression, is_packed, train

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.store import Source, Store

APART = 5
SAMPLES_MIN = 100
SAMPLE_BYTES = 100  # for each byte of the dictionary, as zstd advises


class Trained(NamedTuple):
    """A dictionary, and what blobs come to that it was not made of."""

    dictionary: bytes
    samples: int
    blobs: int
    """Tried, of which the sizes are:"""
    blob_bytes: int
    plain_bytes: int
    """Compressed without it."""
    trained_bytes: int
    """Compressed with it."""


def train_dictionary(store: Store, level: int) -> Trained:
    """Train one on the blobs of a store that it would be used for.

    Raises:
        InvalidError: there are too few of these.
        CorruptError, UnavailableError: the store cannot be read.
    """
    samples = list(_samples(store, limits.DICTIONARY_BYTES * SAMPLE_BYTES))
    tried, learned = samples[::APART], [each for at, each in enumerate(samples) if at % APART]
    if len(samples) < SAMPLES_MIN:
        allowed = f"at least {SAMPLES_MIN} that are not compressed already"
        most = limits.DICTIONARY_BLOB_BYTES_MAX
        raise InvalidError("store", f"{len(samples)} blobs up to {most:,} bytes", allowed)
    dictionary = train(learned, limits.DICTIONARY_BYTES, level)
    without, trained = Compression(level), Compression(level, [dictionary])
    return Trained(
        dictionary,
        len(learned),
        len(tried),
        sum(map(len, tried)),
        sum(len(without.compress(each, is_small=False)) for each in tried),
        sum(len(trained.compress(each, is_small=True)) for each in tried),
    )


def _samples(store: Store, bytes_max: int) -> Iterator[bytes]:
    """Small blobs, one after the other, until there are enough."""
    seen_bytes = 0
    small = (
        ref.digest for ref in store.scan() if ref.size_bytes <= limits.DICTIONARY_BLOB_BYTES_MAX
    )
    for page in paged(small):
        for opened in store.open_many(page):
            data = b"" if isinstance(opened, BlobError) else _whole(opened)
            if not data or is_packed(data):
                continue
            yield data
            seen_bytes += len(data)
            if seen_bytes > bytes_max:
                return


def _whole(source: Source) -> bytes:
    """Read a blob; nothing of one that is damaged, or larger than its compressed bytes told."""
    with source:
        if source.size_bytes > limits.DICTIONARY_BLOB_BYTES_MAX:
            return b""
        data = outcome(read_all, source)
    return b"" if isinstance(data, BlobError) else data
