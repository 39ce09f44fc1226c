"""What lies in another order, given out in that of digests, with bounded memory.

Each walk over everything takes along the smallest that were not given out yet. A store of N blobs
is walked N / `limits.SORTED_REFS_MAX` times, which costs no more than walks of its names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdfast.core.digest import BlobRef, Digest


def in_order(walk: Callable[[], Iterable[BlobRef]], after: Digest | None) -> Iterator[BlobRef]:
    """Yield all of what `walk` gives behind `after`, in order, each once."""
    while page := _smallest(walk(), after):
        yield from page
        after = page[-1].digest


def _smallest(refs: Iterable[BlobRef], after: Digest | None) -> list[BlobRef]:
    kept: list[BlobRef] = []
    bound: Digest | None = None
    for ref in refs:
        is_given = after is not None and ref.digest <= after
        if is_given or (bound is not None and ref.digest > bound):
            continue
        kept.append(ref)
        if len(kept) >= 2 * limits.SORTED_REFS_MAX:
            kept = sorted(kept)[: limits.SORTED_REFS_MAX]
            bound = kept[-1].digest
    return sorted(kept)[: limits.SORTED_REFS_MAX]
