"""Random calls on a store, compared with a dict that shares no code with it."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import NotFoundError
from holdfast.core.limits import KIB, MIB
from holdfast.core.store import Source, Span, Store
from holdfast.testing.blobs import read, read_all, scanned, whole

SETTINGS = settings(
    max_examples=settings().max_examples // 5,  # a profile for long runs raises both
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
BOUNDARIES = [256 * KIB, MIB, 2 * MIB]
SIZES = st.one_of(
    st.integers(0, 300),
    st.builds(int.__add__, st.sampled_from(BOUNDARIES), st.integers(-2, 2)),
)
SEEDS = st.integers(0, 3)
OFFSETS = st.one_of(st.integers(0, 300), st.integers(0, 3 * MIB))

Open = Callable[[Path], Store]
Close = Callable[[Store], None]


def check_against_a_dict(open_store: Open, close_store: Close) -> None:
    """Let Hypothesis look for calls after which the store and a dict differ."""
    run_state_machine_as_test(
        lambda: StoreMachine(open_store, close_store),  # type: ignore[arg-type]  # a factory will do
        settings=SETTINGS,
    )


class StoreMachine(RuleBasedStateMachine):
    """A store beside a dict from SHA-256 to bytes."""

    def __init__(self, open_store: Open, close_store: Close) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._open_store = open_store
        self._close_store = close_store
        self._store = open_store(self._folder / "store")
        self._blobs: dict[bytes, bytes] = {}
        self._known: set[bytes] = {hashlib.sha256(b"missing").digest()}
        self._sources: list[tuple[Source, bytes]] = []

    @rule(size_bytes=SIZES, seed=SEEDS, step_bytes=st.sampled_from([1000, 100 * KIB, 2 * MIB]))
    def put(self, size_bytes: int, seed: int, step_bytes: int) -> None:
        """Store bytes, maybe again."""
        data = _content(size_bytes, seed)
        digest = hashlib.sha256(data).digest()
        with self._store.sink() as sink:
            for start in range(0, size_bytes, step_bytes):
                sink.write(data[start : start + step_bytes])
            sink.commit(BlobRef(Digest(digest), size_bytes)).result()
        self._blobs[digest] = data
        self._known.add(digest)

    @rule(sizes=st.lists(SIZES, max_size=4), seed=SEEDS)
    def put_many(self, sizes: list[int], seed: int) -> None:
        """Store several at once, some of them maybe twice."""
        blobs = [_content(size_bytes, seed) for size_bytes in sizes]
        digests = [hashlib.sha256(data).digest() for data in blobs]
        assert self._store.put_many(blobs) == list(zip(digests, sizes, strict=True))
        self._blobs |= zip(digests, blobs, strict=True)
        self._known |= set(digests)

    @rule(size_bytes=SIZES, seed=SEEDS)
    def discard(self, size_bytes: int, seed: int) -> None:
        """Write bytes and think better of it."""
        with self._store.sink() as sink:
            sink.write(_content(size_bytes, seed))

    @rule(data=st.data(), count=st.integers(1, 3))
    def remove(self, data: st.DataObject, count: int) -> None:
        """Forget some that are there or are not."""
        digests = [self._draw(data) for _ in range(count)]
        self._store.remove(digests)
        for digest in digests:
            self._blobs.pop(digest, None)

    @rule(data=st.data(), offset=OFFSETS, size_bytes=OFFSETS)
    def read(self, data: st.DataObject, offset: int, size_bytes: int) -> None:
        """Read a part and compare it."""
        digest = self._draw(data)
        if digest not in self._blobs:
            assert self._is_missing(digest)
            return
        offset = min(offset, len(self._blobs[digest]))
        expected = self._blobs[digest][offset : offset + size_bytes]
        with whole(self._store, digest, Span(offset, size_bytes)) as source:
            assert read_all(source, 100 * KIB) == expected

    @precondition(lambda self: len(self._sources) < 5)
    @rule(data=st.data())
    def keep_open(self, data: st.DataObject) -> None:
        """Open a blob and read it much later."""
        digest = self._draw(data)
        if digest in self._blobs:
            self._sources.append((whole(self._store, digest), self._blobs[digest]))

    @precondition(lambda self: self._sources)
    @rule()
    def finish_reading(self) -> None:
        """Read what was opened long ago, whatever has happened since."""
        source, expected = self._sources.pop()
        with source:
            assert read_all(source) == expected

    @rule(data=st.data())
    def scan(self, data: st.DataObject) -> None:
        """List what lies behind a digest."""
        after = self._draw(data)
        expected = [(each, len(self._blobs[each])) for each in sorted(self._blobs) if each > after]
        assert scanned(self._store, after) == expected

    @precondition(lambda self: self._store.traits.durable)
    @rule()
    def reopen(self) -> None:
        """Close and open again; nothing may have changed."""
        while self._sources:
            self.finish_reading()
        self._close_store(self._store)
        self._store = self._open_store(self._folder / "store")

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        """Sizes and order agree after every step."""
        sizes = {each: len(data) for each, data in self._blobs.items()}
        assert scanned(self._store) == sorted(sizes.items())
        assert self._store.stat([Digest(each) for each in self._known]) == sizes

    def teardown(self) -> None:
        """Read everything back, then let go."""
        try:
            while self._sources:
                self.finish_reading()
            for digest, expected in self._blobs.items():
                assert read(self._store, Digest(digest)) == expected
        finally:
            self._close_store(self._store)
            shutil.rmtree(self._folder)

    def _draw(self, data: st.DataObject) -> Digest:
        return Digest(data.draw(st.sampled_from(sorted(self._known))))

    def _is_missing(self, digest: Digest) -> bool:
        try:
            whole(self._store, digest).close()
        except NotFoundError:
            return True
        return False


def _content(size_bytes: int, seed: int) -> bytes:
    word = b"%d " % seed
    return (word * (size_bytes // len(word) + 1))[:size_bytes]
