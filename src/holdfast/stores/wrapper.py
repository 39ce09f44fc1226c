"""A store around another one, which does everything as that does; for policies to build on.

A wrapper says what it does differently, and forwards the rest: whatever the inner store promises of
durability, of staging with a log and of open sources then holds for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.errors import BlobError
    from holdfast.core.seams import Buffer
    from holdfast.core.store import (
        FileRef,
        Keep,
        Sink,
        Source,
        Span,
        Store,
        Traits,
        Usage,
        Verdict,
    )


class Wrapper:
    """The store contract by way of `inner`, which it owns and closes."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def traits(self) -> Traits:
        """Those of the inner store."""
        return self.inner.traits

    def sink(self) -> Sink:
        """Open a way into the inner store."""
        return self.inner.sink()

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Store blobs in the inner store."""
        return self.inner.put_many(payloads)

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open a blob of the inner store."""
        return self.inner.open(digest, span, wait=wait)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs of the inner store."""
        return self.inner.open_many(digests)

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Name the files of the inner store."""
        return self.inner.file_refs(digests)

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Size in bytes of those that exist."""
        return self.inner.stat(digests)

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Yield every blob in digest order."""
        return self.inner.scan(after)

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs."""
        self.inner.remove(digests)

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Forget old blobs that nobody wants."""
        return self.inner.expire(digests, before_us, keep)

    def usage(self) -> Usage:
        """What the inner store takes."""
        return self.inner.usage()

    def close(self) -> None:
        """Close the inner store."""
        self.inner.close()
