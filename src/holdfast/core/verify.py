"""Verifying blobs: what is stored is read, a chunk at a time, and held against what it should be.

A verifier sees the bytes of one blob and judges at the end. The usual one hashes them; another may
parse an image, or compare with a second copy.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest, Hasher
from holdfast.core.errors import BlobError, CorruptError, bare
from holdfast.core.seams import Buffer
from holdfast.core.store import Source, Store


class Verifier(Protocol):
    """Judges the bytes of one blob."""

    def update(self, chunk: Buffer) -> None:
        """See the next bytes; raises BlobError when they are wrong already."""

    def finish(self) -> None:
        """Judge; raises BlobError, in most cases CorruptError."""


class HashVerifier:
    """Compares the SHA-256 of the bytes with the digest."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._hasher = Hasher()

    def update(self, chunk: Buffer) -> None:
        """Hash the next bytes."""
        self._hasher.update(chunk)

    def finish(self) -> None:
        """Compare.

        Raises:
            CorruptError: the bytes have another digest.
        """
        if self._hasher.ref().digest != self._digest:
            raise CorruptError("the stored bytes have another digest", digest=str(self._digest))


VerifierOf = Callable[[Digest], Verifier]


def verify_steps(
    store: Store, digest: Digest, verifier_of: VerifierOf = HashVerifier
) -> Iterator[int]:
    """Verify one blob, and yield after each chunk how many bytes it had.

    Raises:
        CorruptError: the stored bytes are not those of the digest.
        NotFoundError, UnavailableError: as `Store.open` has it.
    """
    source = store.open(digest)
    assert source is not None
    yield from _steps(source, verifier_of(digest))


def check_content(digest: Digest, source: Source) -> Iterator[int]:
    """Verify what a source gives, then close it; yield after each chunk how many bytes it had.

    Raises:
        CorruptError: it is not that blob.
    """
    return _steps(source, HashVerifier(digest))


def verify(store: Store, digest: Digest, verifier_of: VerifierOf = HashVerifier) -> BlobRef:
    """Verify one blob.

    Raises:
        CorruptError, NotFoundError, UnavailableError: as `verify_steps` has it.
    """
    return BlobRef(digest, sum(verify_steps(store, digest, verifier_of)))


def verify_many(
    store: Store, digests: Sequence[Digest], verifier_of: VerifierOf = HashVerifier
) -> Iterator[BlobRef | BlobError]:
    """Verify blobs in the order asked, one that comes again once; an error is a value here.

    At most `limits.BATCH_REFS_MAX` at once. Holds a chunk, or what `Store.open_many` reads ahead.
    """
    assert len(digests) <= limits.BATCH_REFS_MAX
    return _verify_many(store, digests, verifier_of)


def _verify_many(
    store: Store, digests: Sequence[Digest], verifier_of: VerifierOf
) -> Iterator[BlobRef | BlobError]:
    opened = store.open_many(list(dict.fromkeys(digests)))
    outcomes: dict[Digest, BlobRef | BlobError] = {}
    for digest in digests:
        if digest not in outcomes:
            outcomes[digest] = _outcome(next(opened), digest, verifier_of)
        yield outcomes[digest]


def _outcome(
    opened: Source | BlobError, digest: Digest, verifier_of: VerifierOf
) -> BlobRef | BlobError:
    if isinstance(opened, BlobError):
        return opened
    try:
        return BlobRef(digest, sum(_steps(opened, verifier_of(digest))))
    except BlobError as error:
        return bare(error)


def _steps(source: Source, verifier: Verifier) -> Iterator[int]:
    with source:
        while chunk := source.read(limits.CHUNK_BYTES):
            verifier.update(chunk)
            yield len(chunk)
    verifier.finish()
