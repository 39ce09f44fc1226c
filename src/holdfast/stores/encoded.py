"""Blobs in another form: compressed or encrypted, as a codec has it, in any other store.

The inner store holds encoded bytes under a name of 32 bytes, which is the digest of the blob or, if
the codec hides that, another; it takes both for a blob of its own. So everything that it does for a
blob (staging, moving, sharing a log's sync, checksums, its own places by size) it does for encoded
ones. Who compares SHA-256 must do it here, outside.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.digest import BlobRef
from holdfast.core.errors import BlobError, CorruptError, NotFoundError, UnsupportedError, bare
from holdfast.core.many import cut, name_all, open_one, outcome, paged
from holdfast.core.store import Span, clamp, no_such_blob
from holdfast.stores.codec import LOOK_BYTES
from holdfast.stores.framed import TURNS_MAX, FramedSource, PartSource, SteadySource
from holdfast.stores.sorted import in_order
from holdfast.stores.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from holdfast.core.digest import Digest
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer
    from holdfast.core.store import (
        FileRef,
        Keep,
        Moment,
        Sink,
        Source,
        Staged,
        Store,
        Traits,
        Verdict,
    )
    from holdfast.stores.codec import Codec, Encoder, Frames


class Form(NamedTuple):
    """One form of a blob, and the bytes that it has in that."""

    coding: str
    """What HTTP calls it; empty: the blob itself."""
    source: Source


class EncodedStore(Wrapper):
    """A store whose blobs have another form in the inner store, which it owns and closes."""

    def __init__(self, inner: Store, codec: Codec) -> None:
        super().__init__(inner)
        self.codec = codec
        is_native = inner.traits.native_file and codec.leaves_plain
        self._traits = replace(inner.traits, native_file=is_native, files=False, encodes=True)

    @property
    def traits(self) -> Traits:
        """Those of the inner store, but that files hold encoded bytes."""
        return self._traits

    def sink(self) -> EncodedSink:
        """Open a way in that encodes, frame by frame."""
        return EncodedSink(self.inner.sink(), self.codec)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Begin all commits, which may share a sync, then wait for them."""
        named = name_all(payloads)
        begun = {ref: outcome(self._begin, ref, payload) for ref, payload in dict(named).items()}
        outcomes = {ref: _ended(ref, pending) for ref, pending in begun.items()}
        return [outcomes[ref] for ref, _ in named]

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open the encoded bytes and read their tail."""
        try:
            stored = self.inner.open(self._name(digest), wait=wait)
        except (NotFoundError, CorruptError) as error:
            raise _about(error, digest) from error
        if stored is None or not (wait or self._is_at_hand(stored)):
            return None
        return self._opened(stored, digest, span)

    def open_form(self, digest: Digest, *, wait: bool = True) -> Form | None:
        """Open a blob in the coding of the codec if it is stored so; None instead of waiting.

        Raises:
            NotFoundError, CorruptError: as `open` does.
        """
        stored = self.inner.open(self._name(digest), wait=wait)
        if stored is None or not (wait or self._is_at_hand(stored)):
            return None
        try:
            frames = self._frames(stored, digest)
        except BaseException:
            stored.close()
            raise
        stored.seek(0)
        if frames is None:
            return Form("", stored)
        if frames.is_common:
            return Form(self.codec.coding, SteadySource(stored))
        return Form("", self._framed(stored, frames, digest, None))

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs as the inner store does it best."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        found = self.inner.open_many(self.codec.hide(digests))
        return (
            bare(_about(stored, digest))
            if isinstance(stored, BlobError)
            else outcome(self._opened, stored, digest, None)
            for digest, stored in zip(digests, found, strict=True)
        )

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Name no file: none has the bytes of a blob."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        names = self.codec.hide(digests)
        there = self.inner.stat(names)
        return [
            UnsupportedError("files hold this blob in another form")
            if name in there
            else no_such_blob(digest)
            for digest, name in zip(digests, names, strict=True)
        ]

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Read the tail of each; what has a damaged one is no blob.

        Raises:
            UnavailableError: one cannot be read now, which is not the same as damaged.
            UnsupportedError: a newer holdfast wrote it.
        """
        assert len(digests) <= limits.BATCH_REFS_MAX
        by_name = self._by_name(digests)
        there = [by_name[name] for name in self.inner.stat(by_name)]
        sizes: dict[Digest, int] = {}
        for digest in there:
            opened = open_one(self, digest)
            if isinstance(opened, NotFoundError | CorruptError):
                continue
            if isinstance(opened, BlobError):
                raise opened
            with opened:
                sizes[digest] = opened.size_bytes
        return sizes

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Yield every blob with the size of its encoded bytes, sorted where names are hidden."""
        if self.codec.keeps_names:
            return self.inner.scan(after)
        return in_order(self._shown, after)

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget encoded bytes."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        self.inner.remove(self.codec.hide(list(digests)))

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Ask `keep` about the blobs behind the names."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        by_name = self._by_name(digests)

        def keep_named(name: Digest, moment: Moment | None) -> bool:
            return keep(by_name[name], moment)

        verdicts = self.inner.expire(by_name.keys(), before_us, keep_named)
        return {by_name[name]: verdict for name, verdict in verdicts.items()}

    def _name(self, digest: Digest) -> Digest:
        return digest if self.codec.keeps_names else self.codec.hide((digest,))[0]

    def _by_name(self, digests: Collection[Digest]) -> dict[Digest, Digest]:
        listed = list(digests)
        return dict(zip(self.codec.hide(listed), listed, strict=True))

    def _shown(self) -> Iterator[BlobRef]:
        for page in paged(self.inner.scan()):
            digests = self.codec.show([ref.digest for ref in page])
            for digest, ref in zip(digests, page, strict=True):
                yield BlobRef(digest, ref.size_bytes)

    def _begin(self, ref: BlobRef, payload: bytes) -> Pending[None]:
        with self.sink() as sink:
            for chunk in cut(payload):
                sink.write(chunk)
            return sink.commit(ref)

    def _is_at_hand(self, stored: Source) -> bool:
        """Whether a blob can be opened without waiting for a disk; closes what cannot.

        What lies in a file can if it is plain, and what does not if all of it is at hand.
        """
        size_bytes = stored.size_bytes
        look_bytes = min(size_bytes, LOOK_BYTES)
        ends = (Span(0, look_bytes), Span(size_bytes - look_bytes, look_bytes))
        try:
            if stored.file() is None:
                is_here = stored.verify(Span(0, size_bytes), wait=False)
            else:
                is_here = all(stored.verify(end, wait=False) for end in ends)
                is_here = is_here and not self.codec.is_likely(stored)
        except BaseException:
            stored.close()
            raise
        if not is_here:
            stored.close()
        return is_here

    def _opened(self, stored: Source, digest: Digest, span: Span | None) -> Source:
        """Open what is stored; that is closed with it, or in failure."""
        try:
            frames = self._frames(stored, digest)
            if frames is not None:
                return self._framed(stored, frames, digest, span)
            if span is None:
                stored.seek(0)
                return stored
            return PartSource(stored, clamp(span, stored.size_bytes))
        except BaseException as error:
            stored.close()
            if isinstance(error, CorruptError):
                raise _about(error, digest) from error
            raise

    def _framed(self, stored: Source, frames: Frames, digest: Digest, span: Span | None) -> Source:
        again = partial(self._frames_again, stored, digest)
        return FramedSource(stored, frames, clamp(span, frames.size_bytes), again)

    def _frames(self, stored: Source, digest: Digest) -> Frames | None:
        """Read the tail of one copy, which may not be the one that was opened.

        Raises:
            CorruptError: no copy has it sound.
        """
        for _ in range(TURNS_MAX):
            turns = stored.turns
            try:
                frames = self.codec.frames(stored, digest)
            except BlobError:
                if stored.turns == turns:
                    raise
            else:
                if stored.turns == turns:
                    return frames
        raise CorruptError("no copy of the encoded bytes of a blob is sound", digest=str(digest))

    def _frames_again(self, stored: Source, digest: Digest) -> Frames:
        frames = self._frames(stored, digest)
        if frames is None:
            raise CorruptError("another copy of a blob is not encoded", digest=str(digest))
        return frames


class EncodedSink(Closing):
    """One blob on its way: gathered into frames, which go to the inner store encoded."""

    __slots__ = ("_codec", "_encoder", "_part", "_sink", "_size_bytes", "_stored_bytes")

    def __init__(self, sink: Sink, codec: Codec) -> None:
        self._sink = sink
        self._codec = codec
        self._encoder: Encoder = codec.encoder()
        self._part = bytearray()
        self._size_bytes = 0
        self._stored_bytes = 0

    def write(self, chunk: Buffer) -> None:
        """Encode the frames that are full now, and keep a copy of the rest."""
        view = memoryview(chunk)
        self._size_bytes += len(view)
        if self._part:
            missing = limits.FRAME_BYTES - len(self._part)
            self._part += view[:missing]
            view = view[missing:]
            if len(self._part) < limits.FRAME_BYTES:
                return
            self._pass(self._encoder.frame(self._part))
            self._part = bytearray()
        while len(view) >= limits.FRAME_BYTES and not self._encoder.is_plain:
            self._pass(self._encoder.frame(view[: limits.FRAME_BYTES]))
            view = view[limits.FRAME_BYTES :]
        if self._encoder.is_plain:
            self._pass(view)
        else:
            self._part += view

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Write the tail and commit the encoded bytes under the name of the blob."""
        return self._sink.commit(self._finish(ref))

    def stage(self, ref: BlobRef) -> Staged | None:
        """Write the tail and leave it to the inner store."""
        return self._sink.stage(self._finish(ref))

    def close(self) -> None:
        """Discard unless committed."""
        self._part = bytearray()
        self._sink.close()

    def _finish(self, ref: BlobRef) -> BlobRef:
        assert ref.size_bytes == self._size_bytes
        if self._part:
            self._pass(self._encoder.frame(self._part))
            self._part = bytearray()
        self._pass(self._encoder.finish(ref))
        return BlobRef(self._codec.hide((ref.digest,))[0], self._stored_bytes)

    def _pass(self, data: Buffer) -> None:
        if data:
            self._stored_bytes += len(data)
            self._sink.write(data)


def _ended(ref: BlobRef, pending: Pending[None] | BlobError) -> BlobRef | BlobError:
    if isinstance(pending, BlobError):
        return pending
    error = pending.exception()
    assert error is None or isinstance(error, BlobError)
    return bare(error) if error is not None else ref


def _about(error: BlobError, digest: Digest) -> BlobError:
    """Say of the blob what the inner store said of its name."""
    if isinstance(error, NotFoundError):
        return no_such_blob(digest)
    if isinstance(error, CorruptError):
        return CorruptError(error.message, **{**error.facts, "digest": str(digest)})
    return error
