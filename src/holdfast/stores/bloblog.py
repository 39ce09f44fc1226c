"""Shards of FerricStore: its segments and refs, byte for byte, to read them and to append to them.

    DATA/blob/shard_3/segments/00000000000000000000.bloblog    headers, each with its payload
    DATA/blob/shard_3/segments/next_segment_id                 smaller ids are not used again
    DATA/blob/shard_3/ab/ab12...ef.blob                        a payload of its first version

What these bytes mean is in docs/ferricstore.md. A shard has one writer. What a crash tore off the
newest segment is cut before the first append; damage elsewhere costs the records that it hit, and
is told by `scan`.
"""

import os
import re
import stat
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from holdfast.core import limits
from holdfast.core.digest import Digest, Hasher
from holdfast.core.errors import CorruptError, InvalidError, NotFoundError, UnsatisfiableError
from holdfast.core.many import name_all
from holdfast.core.seams import Buffer, Disk
from holdfast.core.store import FileRef, Span
from holdfast.stores.handles import world

HEADER = struct.Struct(">8sQ32s")
REF_1 = struct.Struct(">8sQ32s")
REF_2 = struct.Struct(">8sQQQ32s")
HEADER_MAGIC = b"\x00FSBLOG\x01"
REF_MAGIC = b"\x00FSBLOB"
U64_MAX = (1 << 64) - 1
SEGMENTS = "segments"
NEXT_ID = "next_segment_id"
NEXT_ID_BYTES_MAX = 32
SEGMENT_NAME = re.compile(r"([0-9]{20})\.bloblog")
FILE_NAME = re.compile(r"[0-9a-f]{64}\.blob")


class Ref(NamedTuple):
    """What a key of FerricStore holds in the place of a large value."""

    digest: Digest
    size_bytes: int
    segment_id: int | None = None
    """None in refs of the first version: the payload is a file of its own."""
    offset: int = 0
    """Of the payload, whose header lies before it."""

    def pack(self) -> bytes:
        """Encode, in 64 bytes, or 48 of the first version."""
        if self.segment_id is None:
            return REF_1.pack(REF_MAGIC + b"\x01", self.size_bytes, self.digest)
        place = (self.segment_id, self.offset)
        return REF_2.pack(REF_MAGIC + b"\x02", self.size_bytes, *place, self.digest)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Decode; the long form also with the 1 that newer releases write in it.

        Raises:
            InvalidError: these bytes are no ref.
        """
        if len(data) == REF_1.size and data.startswith(REF_MAGIC + b"\x01"):
            _, size_bytes, digest = REF_1.unpack(data)
            return cls(Digest(digest), size_bytes)
        if len(data) == REF_2.size and data.startswith((REF_MAGIC + b"\x02", REF_MAGIC + b"\x01")):
            _, size_bytes, segment_id, offset, digest = REF_2.unpack(data)
            return cls(Digest(digest), size_bytes, segment_id, offset)
        raise InvalidError("ref", data[:64].hex(), "48 or 64 bytes that begin with 00 FSBLOB")


class Damage(NamedTuple):
    """Bytes in which no record can be read."""

    path: Path
    offset: int
    size_bytes: int


class Recovered(NamedTuple):
    """What preparing a shard for appends found and did."""

    segments: int
    truncated_segments: int
    truncated_bytes: int
    damaged_places: int
    """In the newest segment; they were left as they are."""


class Shard:
    """One shard, `DATA/blob/shard_N`; safe from any thread. `_lock` guards the end of its log."""

    def __init__(
        self,
        root: Path,
        disk: Disk | None = None,
        segment_bytes_max: int = limits.SEGMENT_BYTES_MAX,
    ) -> None:
        self._root = root
        self._disk = disk or Disk()
        self._segment_bytes_max = segment_bytes_max
        self._lock = threading.Lock()
        self._end: tuple[int, int] | None = None
        """The newest segment and its size; a segment of size 0 is still to be made."""

    # Reading

    def get(self, ref: Ref) -> bytes:
        """Read and verify a payload.

        Raises:
            NotFoundError, CorruptError, UnavailableError: it is not there, or not what it was.
        """
        return b"".join(self.chunks(ref))

    def chunks(self, ref: Ref) -> Iterator[bytes]:
        """Read a payload part by part; whether it was sound is known at the end.

        Raises:
            NotFoundError, CorruptError, UnavailableError: as `get` does.
        """
        hasher = Hasher()
        with self._reading(ref) as (descriptor, start), world("reading a payload"):
            for chunk in self._bytes(descriptor, start, ref.size_bytes):
                hasher.update(chunk)
                yield chunk
        if hasher.ref() != (ref.digest, ref.size_bytes):
            raise CorruptError(
                "a payload has other bytes than its ref says", digest=str(ref.digest)
            )

    def get_range(self, ref: Ref, span: Span) -> bytes:
        """Read a part of a payload and nothing else; only the whole of it is verified.

        Raises:
            UnsatisfiableError: the part is not inside.
            NotFoundError, CorruptError, UnavailableError: as `get` does.
        """
        if not 0 <= span.offset <= span.offset + span.size_bytes <= ref.size_bytes:
            raise UnsatisfiableError(ref.size_bytes)
        if span == (0, ref.size_bytes):
            return self.get(ref)
        with self._reading(ref) as (descriptor, start), world("reading a payload"):
            return self._disk.pread(descriptor, span.size_bytes, start + span.offset)

    def file_ref(self, ref: Ref) -> FileRef:
        """Say where a payload lies, after a look at its header and the size of the file.

        Raises:
            NotFoundError, CorruptError, UnavailableError: as `get` does.
        """
        with self._reading(ref) as (_, start):
            return FileRef(self._path(ref), start, ref.size_bytes)

    def scan(self) -> Iterator[Ref | Damage]:
        """Read everything: sound payloads, and what is none; segments first, in their order."""
        for segment_id in self._segment_ids():
            with self._opened(self._segment_path(segment_id)) as (descriptor, size_bytes):
                yield from self._records(descriptor, segment_id, size_bytes)
        with world("listing payloads"):
            names = sorted(self._root.glob("??/*.blob"))
        for path in names:
            if FILE_NAME.fullmatch(path.name) and path.name[:2] == path.parent.name:
                with self._opened(path) as (descriptor, size_bytes):
                    ref = Ref(Digest(bytes.fromhex(path.stem)), size_bytes)
                    sound = self._hash(descriptor, 0, size_bytes) == ref.digest
                yield ref if sound else Damage(path, 0, size_bytes)

    # Writing

    def recover(self) -> Recovered:
        """Cut what a crash tore off the newest segment; the first append does it, too.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        with self._lock:
            return self._recover()

    def put_many(self, payloads: Sequence[Buffer]) -> list[Ref]:
        """Append payloads with one write and one sync; equal ones once. Refs in their order.

        Raises:
            FullError, UnavailableError: nothing was stored; that segment is written no more.
        """
        named = name_all(payloads)
        new = {ref.digest: payload for ref, payload in named}
        with self._lock:
            if self._end is None:
                self._recover()
            assert self._end is not None
            size_bytes = sum(HEADER.size + len(one) for one in new.values())
            segment_id, at = self._end
            if at and at + size_bytes > self._segment_bytes_max:
                segment_id, at = segment_id + 1, 0
            segment_id = segment_id if at else max(segment_id, self._next_id())
            places = self._append(segment_id, at, new) if new else {}
        return [Ref(ref.digest, ref.size_bytes, segment_id, places[ref.digest]) for ref, _ in named]

    def _append(self, segment_id: int, at: int, new: dict[Digest, bytes]) -> dict[Digest, int]:
        """Write records and sync them; say where their payloads lie."""
        path, places, end = self._segment_path(segment_id), dict[Digest, int](), at
        buffers: list[Buffer] = []
        for digest, payload in new.items():
            buffers += [HEADER.pack(HEADER_MAGIC, len(payload), digest), payload]
            places[digest] = end + HEADER.size
            end = places[digest] + len(payload)
        with world("appending to a segment"):
            if at == 0:
                self._disk.make_directory(path.parent)
            descriptor = self._disk.open(path, os.O_RDWR | os.O_CREAT)
            self._end = (segment_id + 1, 0)  # unless it ends well
            try:
                self._write(descriptor, buffers, at)
            finally:
                self._disk.close(descriptor)
            if at == 0:
                self._disk.sync_directory(path.parent)
        self._end = (segment_id, end)
        return places

    def _write(self, descriptor: int, buffers: Sequence[Buffer], at: int) -> None:
        try:
            self._disk.pwrite_all(descriptor, buffers, at)
            self._disk.sync(descriptor)
        except OSError:
            with suppress(OSError):
                self._disk.truncate(descriptor, at)
            raise

    def _recover(self) -> Recovered:
        ids = self._segment_ids()
        if not ids:
            self._end = (0, 0)
            return Recovered(0, 0, 0, 0)
        with self._opened(self._segment_path(ids[-1]), os.O_RDWR) as (descriptor, size_bytes):
            found = list(self._records(descriptor, ids[-1], size_bytes))
            damaged = [each for each in found if isinstance(each, Damage)]
            end = size_bytes
            if damaged and damaged[-1].offset + damaged[-1].size_bytes == size_bytes:
                end = damaged.pop().offset
                with world("cutting a torn segment"):
                    self._disk.truncate(descriptor, end)
                    self._disk.sync(descriptor)
        self._end = (ids[-1], end)
        return Recovered(len(ids), int(end < size_bytes), size_bytes - end, len(damaged))

    # What lies where

    def _records(self, descriptor: int, segment_id: int, size_bytes: int) -> Iterator[Ref | Damage]:
        """Walk from record to record; behind bytes that are none, look for the next one."""
        path, at = self._segment_path(segment_id), 0
        with world("reading a segment"):
            while at < size_bytes:
                ref = self._header(descriptor, segment_id, at, size_bytes)
                if ref is not None:
                    end = ref.offset + ref.size_bytes
                    sound = self._hash(descriptor, ref.offset, ref.size_bytes) == ref.digest
                    if sound or self._begins(descriptor, end, size_bytes):
                        yield ref if sound else Damage(path, at, end - at)
                        at = end
                        continue
                end = self._next_record(descriptor, segment_id, at + 1, size_bytes)
                yield Damage(path, at, end - at)
                at = end

    def _header(self, descriptor: int, segment_id: int, at: int, end: int) -> Ref | None:
        data = self._disk.pread(descriptor, HEADER.size, at)
        if len(data) < HEADER.size or not data.startswith(HEADER_MAGIC):
            return None
        _, size_bytes, digest = HEADER.unpack(data)
        ref = Ref(Digest(digest), size_bytes, segment_id, at + HEADER.size)
        return ref if ref.offset + size_bytes <= end else None

    def _begins(self, descriptor: int, at: int, end: int) -> bool:
        """Whether a record begins somewhere; not at the end, where one may have been torn off."""
        return at < end and self._disk.pread(descriptor, 8, at) == HEADER_MAGIC

    def _next_record(self, descriptor: int, segment_id: int, at: int, end: int) -> int:
        """Where the next header stands behind which there is another one, or the end."""
        while at < end:
            window = self._disk.pread(descriptor, limits.CHUNK_BYTES, at)
            found = window.find(HEADER_MAGIC)
            if found < 0:
                if at + len(window) >= end:
                    return end
                at += len(window) - len(HEADER_MAGIC) + 1
                continue
            at += found
            ref = self._header(descriptor, segment_id, at, end)
            if ref is not None:
                behind = ref.offset + ref.size_bytes
                if behind == end or self._begins(descriptor, behind, end):
                    return at
            at += 1
        return end

    def _hash(self, descriptor: int, start: int, size_bytes: int) -> Digest:
        hasher = Hasher()
        for chunk in self._bytes(descriptor, start, size_bytes):
            hasher.update(chunk)
        return hasher.ref().digest

    def _bytes(self, descriptor: int, start: int, size_bytes: int) -> Iterator[bytes]:
        for at in range(0, size_bytes, limits.CHUNK_BYTES):
            wanted = min(limits.CHUNK_BYTES, size_bytes - at)
            yield self._disk.pread(descriptor, wanted, start + at)

    @contextmanager
    def _reading(self, ref: Ref) -> Iterator[tuple[int, int]]:
        """Open the file of a payload: its descriptor, and where the payload begins."""
        with self._opened(self._path(ref)) as (descriptor, size_bytes):
            if ref.segment_id is None:
                if size_bytes != ref.size_bytes:
                    raise CorruptError("a payload has another size than its ref says")
                yield descriptor, 0
                return
            at = ref.offset - HEADER.size
            found = None
            if 0 <= at < size_bytes:
                with world("reading a header"):
                    found = self._header(descriptor, ref.segment_id, at, size_bytes)
            if found != ref:
                raise CorruptError("a record is not the one that its ref names")
            yield descriptor, ref.offset

    @contextmanager
    def _opened(self, path: Path, flags: int = os.O_RDONLY) -> Iterator[tuple[int, int]]:
        """Open a regular file, never through a link: its descriptor and its size."""
        with world("opening a payload"):
            try:
                descriptor = self._disk.open(path, flags | os.O_NONBLOCK)
            except FileNotFoundError:
                raise NotFoundError("there is no such file", file=path.name) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CorruptError("not a regular file", file=path.name)
            yield descriptor, status.st_size
        finally:
            self._disk.close(descriptor)

    def _path(self, ref: Ref) -> Path:
        if ref.segment_id is not None:
            return self._segment_path(ref.segment_id)
        name = ref.digest.hex()
        return self._root / name[:2] / f"{name}.blob"

    def _segment_path(self, segment_id: int) -> Path:
        return self._root / SEGMENTS / f"{segment_id:020d}.bloblog"

    def _segment_ids(self) -> list[int]:
        with world("listing segments"):
            try:
                names = os.listdir(self._root / SEGMENTS)  # noqa: PTH208 - names are all we need
            except FileNotFoundError:
                return []
        return sorted(int(match[1]) for name in names if (match := SEGMENT_NAME.fullmatch(name)))

    def _next_id(self) -> int:
        """The smallest id that a new segment may get."""
        try:
            text = (self._root / SEGMENTS / NEXT_ID).read_bytes()
        except FileNotFoundError:
            return 0
        number = text.removesuffix(b"\n")
        if len(text) > NEXT_ID_BYTES_MAX or not number.isdigit() or int(number) > U64_MAX:
            raise CorruptError(f"{NEXT_ID} is no number")
        return int(number)
