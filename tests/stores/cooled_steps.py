"""Stores whose blobs lie in a cold store as soon as they are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError
from holdfast.core.pending import Promise
from holdfast.core.verify import check_content
from holdfast.stores.cooled import CooledSink, CooledStore
from holdfast.stores.moving import Mover
from holdfast.stores.wrapper import Wrapper
from holdfast.testing.store_expiry import soon_us

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer
    from holdfast.core.store import Traits


class Memory:
    """A register that is gone with its process."""

    def __init__(self) -> None:
        self.sizes: dict[Digest, int] = {}

    def has(self, digest: Digest) -> bool:
        return digest in self.sizes

    def between(self, after: Digest | None, last: Digest | None) -> Iterator[BlobRef]:
        for digest, size_bytes in sorted(self.sizes.items()):
            if (after is None or digest > after) and (last is None or digest <= last):
                yield BlobRef(digest, size_bytes)

    def add(self, refs: Collection[BlobRef]) -> None:
        self.sizes |= dict(refs)

    def remove(self, digests: Collection[Digest]) -> None:
        for digest in digests:
            self.sizes.pop(digest, None)


def move(store: CooledStore, refs: Sequence[BlobRef], before_us: int | None = None) -> int:
    """Move blobs, whatever their age; return how many were."""
    before_us = soon_us() if before_us is None else before_us
    return sum(moved.blobs for moved in Mover(store, check_content).move(refs, before_us))


class Hasty(Wrapper):
    """Moves each blob before its commit ends."""

    def __init__(self, inner: CooledStore) -> None:
        super().__init__(inner)
        self.cooled = inner

    @property
    def traits(self) -> Traits:
        """Nothing stays in a file."""
        return replace(super().traits, native_file=False)

    def sink(self) -> HastySink:
        return HastySink(self.cooled)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        outcomes = super().put_many(payloads)
        for each in set(outcomes):
            if isinstance(each, BlobRef):
                move(self.cooled, [each])
        return outcomes


class HastySink(CooledSink):
    def __init__(self, store: CooledStore) -> None:
        super().__init__(store, store.here.sink())
        self._store = store

    def commit(self, ref: BlobRef) -> Pending[None]:
        done: Promise[None] = Promise()
        try:
            super().commit(ref).result()
            move(self._store, [ref])
        except BlobError as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        return done
