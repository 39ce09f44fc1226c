"""What looks after a store sees of encoded blobs: media, through the codecs that wrote them.

A medium holds encoded bytes under names and knows checksums only. Here its places, findings and
copies are those of blobs again, and a blob is sound if what comes out of its bytes has its digest.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from itertools import chain
from typing import IO, TYPE_CHECKING

from holdfast.core.closing import Closing
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError
from holdfast.core.limits import CHUNK_BYTES
from holdfast.core.store import Span
from holdfast.core.verify import check_content
from holdfast.stores.codec import frame_count, read_span
from holdfast.stores.framed import FramedSource, UnfiledSource
from holdfast.stores.memory import MemorySource

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from holdfast.core.inspection import Finding, Medium, Place, Region, Seen
    from holdfast.core.seams import Buffer
    from holdfast.core.store import NativeFile, Source
    from holdfast.stores.codec import Codec

    Steps = Sequence[tuple[Codec, Digest]]
    """Codecs, the innermost first, each with the digest that it knows a blob by."""


class Codecs:
    """The codecs around a store, the outermost first, as one."""

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self.each = codecs
        self.keeps_names = all(codec.keeps_names for codec in codecs)

    def hide(self, digest: Digest) -> Digest:
        """The name of a blob on the medium."""
        for codec in self.each:
            digest = codec.hide((digest,))[0]
        return digest

    def show(self, name: Digest) -> Digest:
        """The blob that has a name on the medium."""
        for codec in reversed(self.each):
            name = codec.show((name,))[0]
        return name

    def steps(self, digest: Digest) -> Steps:
        """The way from what is stored back to a blob."""
        names = [digest]
        for codec in self.each[:-1]:
            names.append(codec.hide(names[-1:])[0])
        return [*zip(self.each, names, strict=True)][::-1]

    def open(self, stored: Source, name: Digest) -> Source:
        """Read what is stored under a name as the blob; closing it closes `stored`.

        Raises:
            CorruptError: it is no blob in this form.
        """
        source: Source = UnfiledSource(stored)
        try:
            for codec in reversed(self.each):
                name = codec.show((name,))[0]
                frames = codec.frames(source, name)
                if frames is not None:
                    source = FramedSource(source, frames, Span(0, frames.size_bytes))
        except BaseException:
            stored.close()
            raise
        source.seek(0)
        return source

    def check(self, name: Digest, stored: Source) -> Iterator[int]:
        """Do what `check_content` does, for what comes out of stored bytes.

        Raises:
            CorruptError: it is not the blob.
        """
        return check_content(self.show(name), self.open(stored, name))

    def is_blob(self, name: Digest, payload: Buffer) -> bool:
        """Whether bytes in memory are a blob in this form."""
        try:
            for _ in self.check(name, in_memory(payload)):
                pass
        except BlobError:
            return False
        return True


class EncodedMedium:
    """A medium under codecs."""

    def __init__(self, inner: Medium, codecs: Codecs) -> None:
        self._inner = inner
        self._codecs = codecs

    def regions(self) -> list[Region]:
        """Those of the medium."""
        return self._inner.regions()

    def inspect(self, region: str, start: int, wanted: Container[bytes] = ()) -> Iterator[Seen]:
        """Read the medium, which checks by `Codecs`; findings and copies are those of blobs."""
        wanted = wanted if self._codecs.keeps_names else _Shown(wanted, self._codecs)
        for seen in self._inner.inspect(region, start, wanted):
            findings = tuple(map(self._shown, seen.findings))
            copies = tuple(map(self._copy, seen.copies))
            yield seen._replace(findings=findings, copies=copies)

    def place(self, digest: Digest) -> Place | None:
        """Where its encoded bytes lie."""
        return self._inner.place(self._codecs.hide(digest))

    def is_sound(self, digest: Digest) -> bool:
        """Whether the medium has it, and it comes out as it should."""
        return self._inner.is_sound(self._codecs.hide(digest))

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterator[Buffer]]:
        """Bring back what may be its encoded bytes; what cannot be is left out.

        How large these are is not known, unless the blob is stored as it is.
        """
        name = self._codecs.hide(digest)
        found = self._inner.copies(name, None)
        if self._codecs.keeps_names and size_bytes is not None:
            found = chain(found, self._inner.copies(name, size_bytes))
        for chunks in found:
            with tempfile.TemporaryFile() as spool:
                try:
                    spool.writelines(chunks)
                    source = self._codecs.open(SpooledSource(spool), name)
                except BlobError:
                    continue
                yield _chunks(source)

    def forget(self, digest: Digest) -> None:
        """Let the next reader ask the disk."""
        self._inner.forget(self._codecs.hide(digest))

    def discard(self, digest: Digest, quarantine: Path) -> None:
        """Set its encoded bytes aside."""
        self._inner.discard(self._codecs.hide(digest), quarantine)

    def _shown(self, finding: Finding) -> Finding:
        if not finding.digest or self._codecs.keeps_names:
            return finding
        digest = str(self._codecs.show(Digest.parse(finding.digest)))
        where = digest if finding.where == finding.digest else finding.where
        return replace(finding, where=where, digest=digest)

    def _copy(self, found: tuple[Digest, bytes]) -> tuple[Digest, bytes]:
        """What a sound copy comes to."""
        name, data = found
        return self._codecs.show(name), b"".join(_chunks(self._codecs.open(in_memory(data), name)))


class _Shown:
    """Names of which the blobs are in a container."""

    def __init__(self, digests: Container[bytes], codecs: Codecs) -> None:
        self._digests = digests
        self._codecs = codecs

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and self._codecs.show(Digest(name)) in self._digests


class SpooledSource(Closing):
    """What may be encoded bytes, in a temporary file, whose owner closes it."""

    turns = 0

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool = spool
        self.size_bytes = spool.seek(0, os.SEEK_END)

    def read(self, size_bytes: int) -> bytes:
        """Read the next bytes."""
        return self._spool.read(size_bytes)

    def seek(self, offset: int) -> None:
        """Let the next read begin at `offset`."""
        self._spool.seek(offset)

    def file(self) -> NativeFile | None:
        """None: its bytes were proved by nothing."""
        return None

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """There is nothing to hold it to."""
        del window, wait
        return True

    def close(self) -> None:
        """Leave the file to its owner."""


def decoded(stored: Buffer, steps: Steps) -> Buffer:
    """Bring back a whole blob of few bytes; what is stored as it is comes back as it was given.

    Raises:
        CorruptError: it is no blob in this form.
    """
    for codec, digest in steps:
        source = in_memory(stored)
        frames = codec.frames(source, digest)
        if frames is not None:
            numbers = range(frame_count(frames.size_bytes))
            spans = ((number, read_span(source, frames.place(number))) for number in numbers)
            stored = b"".join([frames.decode(*each) for each in spans])
    return stored


def in_memory(data: Buffer) -> MemorySource:
    """Bytes as a source, which nobody may change while it is read."""
    return MemorySource(data, Span(0, len(data)))


def _chunks(source: Source) -> Iterator[Buffer]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk
