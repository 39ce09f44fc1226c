"""A store that is not there, such as a disk that is not mounted, and its medium.

Nothing of it is called missing: whoever asks is told that it is not available, and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from holdfast.core import limits
from holdfast.core.errors import BlobError, UnavailableError
from holdfast.core.store import Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.inspection import Place, Region, Seen
    from holdfast.core.seams import Buffer
    from holdfast.core.store import FileRef, Keep, Sink, Source, Span, Traits, Verdict


class AbsentStore:
    """What would have these traits, if it were there."""

    def __init__(self, why: str, traits: Traits) -> None:
        self._why = why
        self.traits = traits

    def sink(self) -> Sink:
        """Take nothing."""
        self._refuse()

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Take nothing."""
        return [UnavailableError(self._why) for _ in payloads]

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Say why it cannot be known."""
        del digest, span, wait
        self._refuse()

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Say why it cannot be known."""
        return iter([UnavailableError(self._why) for _ in digests])

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Say why it cannot be known."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        return [UnavailableError(self._why) for _ in digests]

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Say why it cannot be known."""
        del digests
        self._refuse()

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Say why it cannot be known."""
        del after
        self._refuse()

    def remove(self, digests: Collection[Digest]) -> None:
        """Remove nothing."""
        del digests
        self._refuse()

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Remove nothing."""
        del digests, before_us, keep
        self._refuse()

    def usage(self) -> Usage:
        """Count what is there: nothing."""
        return Usage()

    def close(self) -> None:
        """Do nothing."""

    def _refuse(self) -> NoReturn:
        raise UnavailableError(self._why)


class AbsentMedium:
    """The same to whoever looks after a store: each question ends with UnavailableError."""

    def __init__(self, why: str) -> None:
        self._why = why

    def regions(self) -> list[Region]:
        """There may be some."""
        self._refuse()

    def inspect(self, region: str, start: int, wanted: Container[bytes] = ()) -> Iterator[Seen]:
        """There is nothing to read."""
        del region, start, wanted
        self._refuse()

    def place(self, digest: Digest) -> Place | None:
        """It may be here."""
        del digest
        self._refuse()

    def is_sound(self, digest: Digest) -> bool:
        """It may be."""
        del digest
        self._refuse()

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterator[Buffer]]:
        """There may be some."""
        del digest, size_bytes
        self._refuse()

    def forget(self, digest: Digest) -> None:
        """There is nothing in memory."""

    def discard(self, digest: Digest, quarantine: Path) -> None:
        """It cannot be moved."""
        del digest, quarantine
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnavailableError(self._why)
