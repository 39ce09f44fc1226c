"""A store that takes the place of another, and reads there what it does not have yet.

    from holdfast.stores.successor import SuccessorStore

    SuccessorStore(new, old)

Everything new goes to the new store; what is looked for is looked for there first, then in the old
one, also where the new one has it damaged, and in the middle of a read. The old store is only read.
Somebody else copies what is missing, mends what is damaged, calls `let_go`, and may close the old
store once nothing of it is `lent`.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import LOST, BlobError, CorruptError, NotFoundError
from holdfast.core.many import merged, open_one, total
from holdfast.core.store import Span, Usage, Verdict, no_such_blob
from holdfast.stores.continued import ContinuedSource, instead
from holdfast.stores.framed import PartSource
from holdfast.stores.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.store import FileRef, Keep, Source, Store, Traits


class SuccessorStore(Wrapper):
    """The new store, which it owns and closes, and the old one, which it borrows.

    `_lock` guards who the old store is, and how much of it is lent.
    """

    def __init__(self, inner: Store, old: Store) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._old: Store | None = old
        self._lent = 0
        self.is_suspect = False
        """Something of the new store turned out to be damaged; more of it may be."""
        new, former = inner.traits, old.traits
        self._traits = replace(
            new,
            native_file=new.native_file or former.native_file,
            files=new.files or former.files,
            encodes=new.encodes or former.encodes,
        )

    @property
    def traits(self) -> Traits:
        """Those of the new store, with what sources and paths of the old one can do."""
        return self._traits

    @property
    def lent(self) -> int:
        """How many sources and looks of the old store are open."""
        return self._lent

    def let_go(self) -> None:
        """Read nothing new of the old store: the new one has it all."""
        with self._lock:
            self._old = None

    def give_back(self) -> None:
        """End a loan; for the sources of this store."""
        with self._lock:
            self._lent -= 1

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open a blob in the new store, else in the old one."""
        try:
            source = self.inner.open(digest, span, wait=wait)
        except LOST as error:
            return self._instead(error, digest, span, wait=wait)
        return None if source is None else self._both(source, digest, span)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs where they are; the new store reads ahead."""
        opened = self.inner.open_many(digests)
        return (self._found(*each) for each in zip(digests, opened, strict=True))

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Name the files of whichever store has them."""
        found = self.inner.file_refs(digests)
        missing = [at for at, each in enumerate(found) if isinstance(each, BlobError)]
        with self._borrowed() as old:
            if old is not None and missing:
                others = old.file_refs([digests[at] for at in missing])
                for at, other in zip(missing, others, strict=True):
                    found[at] = found[at] if isinstance(other, NotFoundError) else other
        return found

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Size in bytes of those that exist in either."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        found = self.inner.stat(digests)
        missing = [digest for digest in digests if digest not in found]
        with self._borrowed() as old:
            return {**old.stat(missing), **found} if old is not None and missing else found

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Merge both scans, which are in order already."""
        with self._borrowed() as old:
            if old is None:
                yield from self.inner.scan(after)
                return
            yield from merged(self.inner.scan(after), old.scan(after))

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs of the new store; what is in the old one stays there until that goes."""
        self.inner.remove(digests)

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Forget old blobs of the new store; what is in the old one, too, is not gone."""
        verdicts = dict(self.inner.expire(digests, before_us, keep))
        removed = [each for each, verdict in verdicts.items() if verdict is Verdict.REMOVED]
        with self._borrowed() as old:
            if old is not None and removed:
                verdicts |= dict.fromkeys(old.stat(removed), Verdict.KEPT)
        return verdicts

    def usage(self) -> Usage:
        """Add both up."""
        with self._borrowed() as old:
            if old is None:
                return self.inner.usage()
            return total((self.inner.usage(), old.usage()))

    @contextmanager
    def _borrowed(self) -> Iterator[Store | None]:
        """The old store, which stays open meanwhile; None once it was let go."""
        with self._lock:
            old = self._old
            self._lent += 1
        try:
            yield old
        finally:
            self.give_back()

    def _instead(
        self, error: BlobError, digest: Digest, span: Span | None, *, wait: bool
    ) -> Source | None:
        """Open a blob in the old store, or say what the new one said."""
        if isinstance(error, CorruptError):
            self.is_suspect = True
        with self._borrowed() as old:
            try:
                if old is None:  # since the new store has been asked
                    return self.inner.open(digest, span, wait=wait)
                source = instead(old.open(digest, span, wait=wait), error)
            except NotFoundError:
                raise error from None
            if source is None or old is None:
                return source
            return ContinuedSource(self._lend(source), self._new_copy(digest, span))

    def _lend(self, source: Source) -> Source:
        """Keep the old store open as long as one of its sources; it is borrowed now."""
        with self._lock:
            self._lent += 1
        return LentSource(self, source)

    def _both(self, source: Source, digest: Digest, span: Span | None) -> Source:
        """A source of the new store, which goes on in the old one where it is damaged."""
        return ContinuedSource(source, self._old_copy(digest, span))

    def _old_copy(self, digest: Digest, span: Span | None) -> Iterator[Source | BlobError]:
        self.is_suspect = True
        with self._borrowed() as old:
            found = no_such_blob(digest) if old is None else open_one(old, digest, span)
            found = found if isinstance(found, BlobError) else self._lend(found)
        yield found

    def _new_copy(self, digest: Digest, span: Span | None) -> Iterator[Source | BlobError]:
        yield open_one(self.inner, digest, span)

    def _found(self, digest: Digest, found: Source | BlobError) -> Source | BlobError:
        """What the new store said of one of many, or what there is instead."""
        if not isinstance(found, BlobError):
            return self._both(found, digest, None)
        return open_one(self, digest) if isinstance(found, LOST) else found


class LentSource(PartSource):
    """A source of the old store, which stays open as long as this one."""

    def __init__(self, store: SuccessorStore, source: Source) -> None:
        super().__init__(source, Span(0, source.size_bytes))
        self._store: SuccessorStore | None = store

    def close(self) -> None:
        """Close it, and say so."""
        super().close()
        store, self._store = self._store, None
        if store is not None:
            store.give_back()
