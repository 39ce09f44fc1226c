"""Calls for many blobs, one after the other: for stores that have no better way."""

from collections.abc import Iterator, Sequence

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError
from holdfast.core.seams import Buffer
from holdfast.core.store import Store


def name_all(payloads: Sequence[Buffer]) -> list[tuple[BlobRef, bytes]]:
    """Name payloads, and keep a copy of those that could change."""
    assert len(payloads) <= limits.BATCH_REFS_MAX
    copies = [one if isinstance(one, bytes) else memoryview(one).tobytes() for one in payloads]
    return [(BlobRef(Digest.of(one), len(one)), one) for one in copies]


def put_each(store: Store, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
    """Do what `Store.put_many` does, with a sink for each blob."""
    named = name_all(payloads)
    outcomes = {ref: _put(store, ref, payload) for ref, payload in dict(named).items()}
    return [outcomes[ref] for ref, _ in named]


def _put(store: Store, ref: BlobRef, payload: bytes) -> BlobRef | BlobError:
    try:
        with store.sink() as sink:
            for chunk in cut(payload):
                sink.write(chunk)
            sink.commit(ref).result()
    except BlobError as error:
        return error.with_traceback(None)  # which would keep the payload
    return ref


def cut(payload: Buffer) -> Iterator[memoryview]:
    """Cut bytes into chunks."""
    view = memoryview(payload)
    for start in range(0, len(view), limits.CHUNK_BYTES):
        yield view[start : start + limits.CHUNK_BYTES]
