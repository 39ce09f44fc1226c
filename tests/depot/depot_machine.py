"""A depot against dicts: every verb in any order, closed and killed and cut off in between.

Its disk is full at times: a change is made then, or refused with an error that says so, and
nothing is changed.
"""

import errno
import io
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from holdfast.core.bucket import CREATE_ONLY, Description, matches
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import (
    BlobError,
    FullError,
    NotFoundError,
    PreconditionError,
    UnsatisfiableError,
)
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.seams import Buffer, Disk
from holdfast.core.store import Span
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.log.state import running_state
from holdfast.testing import folders
from holdfast.testing.recount import check_catalog

SMALL_MAX = 1000
BUCKETS = ["default", "b", "b0"]
KEYS = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a//b",
    "b",
    "ä",
    "\U0010ffff",
    "k" * 1024,
    "k" * 1023 + "l",
    "..",
    "a%2F",
]
NAMES = st.tuples(st.sampled_from(BUCKETS), st.sampled_from(KEYS))
SIZES = st.sampled_from([0, 1, 100, SMALL_MAX, SMALL_MAX + 1, 5000])
CONDITIONS = st.sampled_from(["none", "none", "create", "match", "stale", "any"])


Name = tuple[str, str]
Result = TypeVar("Result")


class NarrowDisk(Disk):
    """A disk that can be full: what has its space is written, and nothing grows or is made.

    The index, most of which LMDB writes by itself, has room at all times, unless it has not. SQLite
    has none for any commit.
    """

    is_full = False
    index_has_room = True

    def open(self, path: Path, flags: int) -> int:
        if flags & os.O_CREAT and not path.exists():
            self._refuse(path)
        return super().open(path, flags)

    def commit(self, database: sqlite3.Connection) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no room")
        super().commit(database)

    def pwrite_all(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        self._grow(descriptor, offset + sum(map(len, buffers)))
        return super().pwrite_all(descriptor, buffers, offset)

    def allocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
        self._grow(descriptor, offset + size_bytes)
        super().allocate(descriptor, offset, size_bytes)

    def _grow(self, descriptor: int, end: int) -> None:
        if end > os.fstat(descriptor).st_size:
            self._refuse(Path(f"/proc/self/fd/{descriptor}").readlink())

    def _refuse(self, path: Path) -> None:
        if self.is_full and not (self.index_has_room and path.parent.name == "index"):
            raise OSError(errno.ENOSPC, "no room")


class Stored(NamedTuple):
    """What a name should be."""

    data: bytes
    content_type: str
    metadata: dict[str, str]
    version: int
    created_us: int


class DepotMachine(RuleBasedStateMachine):
    """Names and holds in dicts, which share no code with the depot."""

    figures: ClassVar[Counter[str]] = Counter()
    bounds = Limits(small_blob_bytes_max=SMALL_MAX)

    def __init__(self) -> None:
        super().__init__()
        self._disk = NarrowDisk()
        self._base = Path(tempfile.mkdtemp(dir=folders.BASE))
        self._lives = 0
        self._folder = self._base / "0"
        self._depot = self._open()
        self._names: dict[Name, Stored] = {}
        self._holds: dict[bytes, bytes] = {}

    def _open(self) -> Depot:
        return open_depot(self._folder, self.bounds, disk=self._disk)

    def _attempt(self, change: Callable[[], Result]) -> tuple[Result] | None:
        """Make a change; None when the disk is full, and nothing has changed."""
        try:
            done = change()
        except FullError:
            assert self._disk.is_full
            self.figures["refused"] += 1
            return None
        self.figures["acknowledged"] += 1
        return (done,)

    def _refused(self, error: type[BlobError]) -> pytest.RaisesExc[BlobError]:
        """Expect an error; a full disk may be in the way first."""
        return pytest.raises((error, FullError) if self._disk.is_full else error)

    # Changes.

    @rule(name=NAMES, size=SIZES, seed=st.integers(0, 2), when=CONDITIONS, kind=st.booleans())
    def put(self, name: Name, size: int, seed: int, when: str, kind: bool) -> None:  # noqa: FBT001 - drawn
        """Create or replace."""
        data = _content(size, seed)
        about = Description("text/x-test; a=1", {"Seed": f"{seed}"}) if kind else Description()
        conditions = self._conditions(when, name)
        bucket = self._depot.bucket(name[0])
        if not self._holds_true(when, name):
            with self._refused(PreconditionError):
                bucket.put(name[1], data, about=about, when=conditions)
            return
        done = self._attempt(lambda: bucket.put(name[1], data, about=about, when=conditions))
        if done is None:
            return
        content_type = "text/x-test; a=1" if kind else "application/octet-stream"
        metadata = {"seed": f"{seed}"} if kind else {}
        self._changed(name, *done, Stored(data, content_type, metadata, 0, 0))

    @rule(name=NAMES, when=CONDITIONS)
    def delete(self, name: Name, when: str) -> None:
        """Remove a name, there or not."""
        bucket = self._depot.bucket(name[0])
        if not self._holds_true(when, name):
            with self._refused(PreconditionError):
                bucket.delete(name[1], when=self._conditions(when, name))
            return
        conditions = self._conditions(when, name)
        done = self._attempt(lambda: bucket.delete(name[1], when=conditions))
        if done is not None:
            assert done == (self._names.pop(name, None) is not None,)

    @rule(name=NAMES, to=NAMES, when=CONDITIONS, move=st.booleans())
    def transfer(self, name: Name, to: Name, when: str, move: bool) -> None:  # noqa: FBT001 - drawn
        """Copy or move, onto itself too."""
        bucket = self._depot.bucket(name[0])
        verb = bucket.move if move else bucket.copy
        conditions = self._conditions(when, to)
        source = self._names.get(name)
        expected = NotFoundError if source is None else PreconditionError
        if source is None or not self._holds_true(when, to):
            with self._refused(expected):
                verb(name[1], to[1], to_bucket=to[0], when=conditions)
            return
        done = self._attempt(lambda: verb(name[1], to[1], to_bucket=to[0], when=conditions))
        if done is None:
            return
        self._changed(to, *done, source)
        if move and name != to:
            del self._names[name]

    @rule(size=SIZES, seed=st.integers(0, 2))
    def hold(self, size: int, seed: int) -> None:
        """Store by digest."""
        data, content = _content(size, seed), self._depot.content
        digest = Digest.of(data)
        done = self._attempt(lambda: content.put(io.BytesIO(data), digest=digest))
        if done is not None:
            assert done == (digest,)
            self._holds[digest] = data

    @rule(size=SIZES, seed=st.integers(0, 2))
    def release(self, size: int, seed: int) -> None:
        """Let go by digest."""
        digest = Digest.of(_content(size, seed))
        if self._attempt(lambda: self._depot.content.delete(digest)) is not None:
            self._holds.pop(digest, None)

    # Reads.

    @rule(name=NAMES, offset=st.integers(0, 6000), size=st.integers(0, 6000))
    def read(self, name: Name, offset: int, size: int) -> None:
        """Read a name in every way."""
        bucket, stored = self._depot.bucket(name[0]), self._names.get(name)
        if stored is None:
            for verb in (bucket.get, bucket.open, bucket.head):
                with pytest.raises(NotFoundError):
                    verb(name[1])
            return
        self._check_entry(name, bucket.head(name[1]))
        assert bucket.get(name[1]) == stored.data
        if offset > len(stored.data):
            with pytest.raises(UnsatisfiableError):
                bucket.get(name[1], Span(offset, size))
        else:
            assert bucket.get(name[1], Span(offset, size)) == stored.data[offset : offset + size]
        with bucket.open(name[1]) as file:
            file.seek(min(offset, len(stored.data)))
            assert file.read(size) == stored.data[offset : offset + size]
            file.seek(0)
            assert file.read() == stored.data

    @rule(
        bucket=st.sampled_from(BUCKETS),
        prefix=st.sampled_from(["", "a", "a/", "a/b", "k", "k" * 600, "ä", "zz"]),
        delimiter=st.sampled_from(["", "/", "b", "k", "//"]),
        limit=st.integers(1, 4),
    )
    def walk(self, bucket: str, prefix: str, delimiter: str, limit: int) -> None:
        """List page by page."""
        expected = _listing([key for name, key in self._names if name == bucket], prefix, delimiter)
        cursor, found = None, list[tuple[bytes, bool]]()
        while True:
            page = self._depot.bucket(bucket).list(
                prefix=prefix, delimiter=delimiter, cursor=cursor, limit=limit
            )
            keys = [(entry.key.encode(), False) for entry in page.entries]
            keys += [(each.encode(), True) for each in page.prefixes]
            assert len(keys) == limit or (page.next is None and len(keys) < limit)
            for entry in page.entries:
                self._check_entry((bucket, entry.key), entry)
            found += sorted(keys)
            cursor = page.next
            if cursor is None:
                break
        assert found == expected

    @rule(limit=st.integers(1, 3))
    def walk_content(self, limit: int) -> None:
        """List digests page by page."""
        expected = sorted(
            {Digest.of(each.data) for each in self._names.values()} | set(self._holds)
        )
        cursor, found = None, list[bytes]()
        while True:
            page = self._depot.content.list(cursor=cursor, limit=limit)
            found += page.digests
            assert len(page.digests) == limit or page.next is None
            cursor = page.next
            if cursor is None:
                break
        assert found == expected
        for digest in expected:
            data = self._depot.content.get(Digest(digest))
            assert Digest.of(data) == digest
            assert self._depot.content.stat(Digest(digest)) == len(data)
            assert self._depot.content.holds(Digest(digest)) == (digest in self._holds)

    # Ends.

    @rule()
    def reopen(self) -> None:
        """Close in order and open again."""
        self._end()
        self._depot = self._open()

    @rule(cut=st.booleans())
    def die(self, cut: bool) -> None:  # noqa: FBT001 - drawn
        """Go on with what lies on the disk now, as after a kill; or a power cut."""
        self._lives += 1
        folder = self._base / f"{self._lives}"
        self._copy(folder, cut=cut)
        self._end()
        shutil.rmtree(self._folder)
        self._folder = folder
        self._depot = self._open()
        assert self._depot.engine.facts()["damaged_places"] == 0

    @invariant()
    def counts_and_references_are_exact(self) -> None:
        """The counters agree with the dict, and the catalog with itself."""
        stats = self._depot.stats()
        sizes = [len(each.data) for each in self._names.values()]
        assert (stats.entries, stats.entry_bytes) == (len(sizes), sum(sizes))
        check_catalog(self._depot.engine.kv)

    def teardown(self) -> None:
        """Compare everything once more."""
        try:
            for name, stored in self._names.items():
                assert self._depot.bucket(name[0]).get(name[1]) == stored.data
            for bucket in BUCKETS:
                keys = [entry.key for entry in self._depot.bucket(bucket).entries()]
                expected = [key.encode() for name, key in self._names if name == bucket]
                assert [key.encode() for key in keys] == sorted(expected)
            self.walk_content(3)
        finally:
            self._end()
            shutil.rmtree(self._base)

    def _end(self) -> None:
        """Close what is open."""
        self._depot.close()

    def _copy(self, folder: Path, *, cut: bool) -> None:
        """Make a copy of what lies on the disk as it is after a death."""
        shutil.copytree(self._folder, folder)
        index = folder / "index"
        (index / "state").write_text("another boot" if cut else running_state(index))

    def _conditions(self, when: str, name: Name) -> Conditions:
        stored = self._names.get(name)
        etag = f'"{Digest.of(stored.data).hex()}"' if stored else '"none"'
        return {
            "none": NO_CONDITIONS,
            "create": CREATE_ONLY,
            "match": matches(etag),
            "stale": matches('"stale"'),
            "any": matches("*"),
        }[when]

    def _holds_true(self, when: str, name: Name) -> bool:
        there = name in self._names
        return {"none": True, "create": not there, "match": there, "stale": False, "any": there}[
            when
        ]

    def _changed(self, name: Name, entry: Entry, stored: Stored) -> None:
        old = self._names.get(name)
        version = old.version + 1 if old else 0
        created_us = old.created_us if old else entry.created_us
        self._names[name] = stored._replace(version=version, created_us=created_us)
        self._check_entry(name, entry)

    def _check_entry(self, name: Name, entry: Entry) -> None:
        stored = self._names[name]
        assert (entry.bucket, entry.key) == name
        assert (entry.digest, entry.size_bytes) == (Digest.of(stored.data), len(stored.data))
        assert (entry.content_type, dict(entry.metadata)) == (stored.content_type, stored.metadata)
        assert (entry.version, entry.created_us) == (stored.version, stored.created_us)
        assert entry.created_us <= entry.modified_us


def _content(size: int, seed: int) -> bytes:
    return (b"%d~" % seed * size)[:size]


def _listing(keys: list[str], prefix: str, delimiter: str) -> list[tuple[bytes, bool]]:
    """What all pages of a listing come to: keys and common prefixes, in byte order."""
    rows = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            rows.add(((prefix + rest.partition(delimiter)[0] + delimiter).encode(), True))
        else:
            rows.add((key.encode(), False))
    return sorted(rows)
