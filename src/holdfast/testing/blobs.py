"""Bytes to test with, and the few steps of putting and reading them."""

import os
import random
from collections.abc import Iterator

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import NotFoundError
from holdfast.core.limits import KIB, MIB
from holdfast.core.many import paged
from holdfast.core.store import Source, Span, Store

SIZES = [0, 1, 2, 255, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1]
SIZES += [MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 17]
"""Around every boundary between small and large, and between chunks."""


def make(size_bytes: int, *, seed: int = 0) -> bytes:
    """Make bytes that look random and are the same each time."""
    return random.Random(size_bytes * 1000 + seed).randbytes(size_bytes)


def put(store: Store, data: bytes, step_bytes: int = MIB) -> BlobRef:
    """Write `data` in steps and wait for its commit."""
    ref = BlobRef(Digest.of(data), len(data))
    with store.sink() as sink:
        for start in range(0, len(data), step_bytes):
            sink.write(data[start : start + step_bytes])
        sink.commit(ref).result()
    return ref


def whole(store: Store, digest: Digest, span: Span | None = None) -> Source:
    """Open a blob, waiting as long as it takes."""
    source = store.open(digest, span)
    assert source is not None
    return source


def read_all(source: Source, step_bytes: int = MIB) -> bytes:
    """Read to the end in steps."""
    parts = []
    while part := bytes(source.read(step_bytes)):
        assert len(part) <= step_bytes
        parts.append(part)
    return b"".join(parts)


def read_native(source: Source) -> bytes:
    """Read the bytes that sendfile would send."""
    native = source.file()
    assert native is not None
    assert native.size_bytes == source.size_bytes
    return os.pread(native.descriptor, native.size_bytes, native.offset)


def cut(size_bytes: int) -> Iterator[int]:
    """Growing steps that together stay below `size_bytes`."""
    step_bytes = 1
    while 2 * step_bytes < size_bytes:
        yield step_bytes
        step_bytes *= 3
        size_bytes -= step_bytes


def read(store: Store, digest: Digest) -> bytes | None:
    """Read a whole blob; None when there is none."""
    try:
        with whole(store, digest) as source:
            return read_all(source)
    except NotFoundError:
        return None


def scanned(store: Store, after: Digest | None = None) -> list[BlobRef]:
    """Every blob behind `after`, as a scan says it; where that says other sizes, with theirs."""
    found = list(store.scan(after))
    if not store.traits.encodes:
        return found
    assert all(ref.size_bytes >= 0 for ref in found)
    sizes: dict[Digest, int] = {}
    for page in paged(ref.digest for ref in found):
        sizes |= store.stat(page)
    return [BlobRef(ref.digest, sizes[ref.digest]) for ref in found]


def assert_absent(store: Store, digest: Digest) -> None:
    """Every verb must agree that there is no such blob."""
    try:
        whole(store, digest).close()
    except NotFoundError:
        pass
    else:
        raise AssertionError(digest)
    assert store.stat([digest]) == {}
    assert digest not in [ref.digest for ref in store.scan()]
