"""One measurement of an object store, in a process of its own: figures as JSON on stdout.

    python -m bench.bucket WHAT WAY PORT SECONDS SIZE FIRST

WHAT is put, get or range, WAY ours or raw. Nothing is read twice, so nothing that is known of a
blob helps; ranges are of a few blobs, as those of a player that seeks are.
"""

import json
import random
import sys
import time
from collections.abc import Callable

import obstore
from obstore.store import S3Store

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.limits import CHUNK_BYTES, KIB
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.core.store import Span
from holdfast.stores.objects import ObjectStore
from holdfast.stores.remote import Remote

RANGE_BYTES = 64 * KIB
FILL_BYTES = 128 << 20
FEW = 4


def main(what: str, way: str, *numbers: str) -> None:
    """Measure, and print the rate: MB or ranges a second."""
    port, size_bytes, first = int(numbers[0]), int(numbers[2]), int(numbers[3])
    client = S3Store(
        bucket="bench",
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True, "timeout": "60s"},
        retry_config={"max_retries": 0},
    )
    turn = _ours if way == "ours" else _raw
    step = turn(client, what, size_bytes, first)
    end_s = time.monotonic() + float(numbers[1])
    began_s, count = time.monotonic(), 0
    while time.monotonic() < end_s and step(count):
        count += 1
    rate = count / (time.monotonic() - began_s)
    print(json.dumps({"rate": rate if what == "range" else rate * size_bytes / 1e6}))


def data(size_bytes: int, number: int) -> bytes:
    """Bytes that no other number has, and that nothing shrinks."""
    return random.Random(number).randbytes(CHUNK_BYTES) * (size_bytes // CHUNK_BYTES)


def _ours(client: S3Store, what: str, size_bytes: int, first: int) -> Callable[[int], bool]:
    clock, entropy = SystemClock(), SystemEntropy()
    store = ObjectStore(Remote(client, "bench", clock, entropy), entropy, clock)

    def put(number: int) -> Digest:
        content = data(size_bytes, first + number)
        ref = BlobRef(Digest.of(content), size_bytes)
        with store.sink() as sink:
            for start in range(0, size_bytes, CHUNK_BYTES):
                sink.write(content[start : start + CHUNK_BYTES])
            sink.commit(ref).result()
        return ref.digest

    if what == "put":
        return lambda number: bool(put(number))
    count = FEW if what == "range" else FILL_BYTES // size_bytes
    digests = [put(number) for number in range(count)]
    fresh = ObjectStore(Remote(client, "bench", clock, entropy), entropy, clock)

    def get(number: int) -> bool:
        if number >= count:
            return False
        source = fresh.open(digests[number])
        assert source is not None
        with source:
            while source.read(CHUNK_BYTES):
                pass
        return True

    def some(number: int) -> bool:
        span = Span(_offset(size_bytes, number), RANGE_BYTES)
        source = fresh.open(digests[number % FEW], span)
        assert source is not None
        with source:
            return bool(source.read(RANGE_BYTES))

    return some if what == "range" else get


def _raw(client: S3Store, what: str, size_bytes: int, first: int) -> Callable[[int], bool]:
    def put(number: int) -> str:
        content = data(size_bytes, first + number)
        name = f"raw/{Digest.of(content).hex()}"
        obstore.put(client, name, content)
        return name

    if what == "put":
        return lambda number: bool(put(number))
    count = FEW if what == "range" else FILL_BYTES // size_bytes
    names = [put(number) for number in range(count)]

    def get(number: int) -> bool:
        if number >= count:
            return False
        return sum(map(len, obstore.get(client, names[number]))) == size_bytes

    def some(number: int) -> bool:
        start = _offset(size_bytes, number)
        return bool(obstore.get_range(client, names[number % FEW], start=start, length=RANGE_BYTES))

    return some if what == "range" else get


def _offset(size_bytes: int, number: int) -> int:
    return random.Random(number).randrange(size_bytes - RANGE_BYTES)


if __name__ == "__main__":
    main(*sys.argv[1:])
