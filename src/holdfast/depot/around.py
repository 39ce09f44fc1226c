"""What is around the blobs of a store, outside of their codecs: SHA-256, and a cache.

    <cache_dir>/HOLDFAST   whose cache it is (depot/claims.py)
    <cache_dir>/blobs      what is in it, as files

Nothing of it is remembered by the folder: whoever opens it says what is wanted. Both compare
digests, which are those of plain bytes; so a cache on a disk is encrypted again if the store is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.depot.claims import CACHE, ClaimedStore, claim, claim_of, hold
from holdfast.stores.cached import CachedStore
from holdfast.stores.encoded import EncodedStore
from holdfast.stores.files import FileStore
from holdfast.stores.memory import MemoryStore
from holdfast.stores.verified import VerifiedStore

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.store import Store
    from holdfast.depot.engine import Limits
    from holdfast.depot.stack import Stack
    from holdfast.depot.wrapped import Seams
    from holdfast.stores.through import Codecs

BLOBS = "blobs"


def surround(store: Store, own: str, bounds: Limits, codecs: Codecs, seams: Seams) -> Store:
    """Put around a store, whose id is `own`, what is wanted.

    Raises:
        ConflictError: the folder of the cache is something else.
        CorruptError, UnsupportedError: what it says of itself cannot be read.
        FullError, UnavailableError: it is in use, or its disk refuses.
    """
    stack = bounds.stack
    if stack.verify:
        store = VerifiedStore(store, seams.clock)
    if not stack.cache_bytes:
        return store
    cache: Store = MemoryStore(seams.clock)
    if stack.cache_dir is not None:
        cache = _in_folder(stack.cache_dir, own, codecs, seams)
    try:
        return CachedStore(store, cache, stack.cache_bytes, bounds.small_blob_bytes_max + 1)
    except BaseException:
        cache.close()
        raise


def beneath(store: Store) -> Store:
    """What a store is without its cache, which would hide how it is."""
    return store.inner if isinstance(store, CachedStore) else store


def is_direct(stack: Stack) -> bool:
    """Whether bytes may be read past what is around them."""
    return not (stack.verify or stack.cache_bytes)


def _in_folder(folder: Path, own: str, codecs: Codecs, seams: Seams) -> Store:
    claim_of(folder)  # which says it of a store; its lock would be somebody's
    guard = hold(folder, seams)
    try:
        claim(folder, CACHE, own, seams)
        store: Store = FileStore(folder / BLOBS, seams.disk, seams.entropy, seams.clock)
    except BaseException:
        guard.release()
        raise
    for codec in codecs.each:
        if not codec.keeps_names:  # it is there to hide
            store = EncodedStore(store, codec)
    return ClaimedStore(store, guard)
