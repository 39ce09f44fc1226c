"""An epoch: what the requests of one batch come to, planned in memory over all shards.

Requests are planned one after the other, each over what those before it left. What one of them
changes counts only once it was planned to its end, so an error of one never touches the others.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.core.kv import Versioned
from holdfast.shards.rows import (
    BLOB,
    KEY,
    LOOSE,
    Blob,
    Change,
    Chunk,
    Row,
    State,
    chunk_of,
    is_sound,
    loose_id,
    loose_key,
    place_of,
    read_blob,
)
from holdfast.shards.shard import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.digest import BlobRef
    from holdfast.core.groupcommit import Result
    from holdfast.shards.routing import Routing
    from holdfast.shards.shard import Shard

Where = tuple[int, bytes]
"""The number of a shard, and the key of a row in it."""
UNKNOWN = Row(0, b"")
"""What a damaged row is counted as."""


class _Layer:
    """What one request changes."""

    def __init__(self) -> None:
        self.rows: dict[Where, Row | None] = {}
        self.chunks: dict[tuple[int, int], Chunk] = {}
        """By shard and place."""
        self.changes: list[tuple[int, Change]] = []
        self.orphans: list[Where] = []
        self.commits = 0


class Epoch:
    """The changes of a batch; used by the planner's thread alone."""

    def __init__(
        self, shards: Sequence[Shard], routing: Routing, revision: int, now_us: int
    ) -> None:
        self._shards = shards
        self._routing = routing
        self._now_us = now_us
        self._first = revision
        self._all = _Layer()
        self._new = _Layer()
        self._old: dict[Where, Row | None] = {}
        self.oldest = 1
        """The oldest revision that is kept, as far as a request says."""

    @property
    def revision(self) -> int:
        """That of the last commit so far."""
        return self._first + self._all.commits + self._new.commits

    def attempt(self, stage: Callable[[Epoch], Result]) -> Result:
        """Let a request change the epoch; an error leaves no trace of it.

        One that consists of others makes each of them an attempt of its own, and changes nothing
        beside them.
        """
        self._new = _Layer()
        try:
            result = stage(self)
            done, new = self._all, self._new
            done.rows.update(new.rows)
            done.chunks.update(new.chunks)
            done.changes += new.changes
            done.orphans += new.orphans
            done.commits += new.commits
        finally:
            self._new = _Layer()
        return result

    # Keys

    def get(self, key: bytes) -> Versioned | None:
        """Read a key as the requests before left it."""
        row = self._get((self._routing.key(key), KEY + key))
        return None if row is None else Versioned(row.value, row.revision)

    def get_many(self, keys: Sequence[bytes]) -> list[Versioned | None]:
        """Read keys."""
        return [self.get(key) for key in keys]

    def is_empty(self, start: bytes, end: bytes) -> bool:
        """Whether no key k with start <= k < end exists now."""
        first, last = KEY + start, KEY + end
        planned = {**self._all.rows, **self._new.rows}
        for (_, key), row in planned.items():
            if row is not None and first <= key < last:
                return False
        for shard in self._shards:
            for key in shard.keys(first, last):
                if (shard.number, key) not in planned:
                    return False
        return True

    def was_empty(self, start: bytes, end: bytes) -> bool:
        """Whether there was none before this epoch."""
        first, last = KEY + start, KEY + end
        return not any(any(True for _ in shard.keys(first, last)) for shard in self._shards)

    def add_commit(self, writes: Sequence[tuple[bytes, bytes | None]]) -> int:
        """Apply the writes of one commit and return its revision."""
        self._new.commits += 1
        revision = self.revision
        for key, value in writes:
            number = self._routing.key(key)
            row = None if value is None else Row(revision, value)
            self._set((number, KEY + key), row)
            self._new.changes.append((number, Change(revision, key, value)))
        return revision

    def restore(self, rows: Sequence[tuple[bytes, Row | None]], changes: Sequence[Change]) -> None:
        """Let keys be here as in another store, with their revisions and their history.

        Those without a row go.
        """
        for key, row in rows:
            self._set((self._routing.key(key), KEY + key), row)
        for change in changes:
            self._new.changes.append((self._routing.key(change.key), change))

    def adopt(self, revision: int, oldest: int) -> None:
        """Let the newest revision, and the oldest that is kept, be those of another store."""
        assert revision >= self.revision
        self._new.commits += revision - self.revision
        self.oldest = oldest

    # Blobs

    def locate(self, digest: bytes) -> Blob | None:
        """Where a blob is, or will be."""
        row = self._get(self._place(digest))
        return None if row is None else read_blob(row.value)

    def add_blob(self, ref: BlobRef, payload: bytes) -> None:
        """Store a small blob, unless a good copy is there; a damaged one is replaced."""
        old = self._replaced(ref.digest)
        if old is not None and self._holds(old, payload):
            return
        home = self._routing.digest(ref.digest)
        blob_id = self._shards[home].new_id()
        for number, at in enumerate(range(0, len(payload), limits.ROW_BYTES_MAX)):
            place = place_of(blob_id, number)
            chunk = chunk_of(place, payload[at : at + limits.ROW_BYTES_MAX])
            self._new.chunks[home, place] = chunk
        self._new.orphans.append((home, loose_key(blob_id)))
        self._name(ref, Blob(home, blob_id, ref.size_bytes, self._now_us), old)

    def take(self, ref: BlobRef, home: int, blob_id: int) -> None:
        """Name chunks that are there already."""
        old = self._replaced(ref.digest)
        self._set((home, loose_key(blob_id)), None)
        self._name(ref, Blob(home, blob_id, ref.size_bytes, self._now_us), old)

    def remove_blobs(self, digests: Sequence[bytes]) -> None:
        """Forget blobs; a missing one is no error."""
        for digest in digests:
            old = self.locate(digest)
            if old is not None:
                self._set(self._place(digest), None)
                self._loosen(old)

    def drop_blob(self, digest: bytes) -> None:
        """Forget a damaged blob, whose row may be, too."""
        try:
            self.remove_blobs([digest])
        except CorruptError:
            self._set(self._place(digest), None)

    # All of it

    def parts(self) -> dict[int, Part]:
        """What is to be done in each shard; none where nothing is."""
        parts: defaultdict[int, Part] = defaultdict(Part)
        for (number, key), row in self._all.rows.items():
            parts[number].rows[key] = row
            parts[number].old[key] = self._before((number, key))
        for (number, _), chunk in self._all.chunks.items():
            parts[number].chunks.append(chunk)
        for number, change in self._all.changes:
            parts[number].changes.append(change)
        for number, key in self._all.orphans:
            parts[number].orphans.append(key)
        if not parts and self._all.commits:
            parts[0] = Part()  # commits of nothing have revisions, too
        return parts

    def tables(self) -> set[int]:
        """The first bytes of the keys that change."""
        return {change.key[0] for _, change in self._all.changes}

    def loosened(self) -> Iterator[tuple[int, int]]:
        """The shards and ids of chunks that no blob has any more."""
        for (number, key), row in self._all.rows.items():
            if key[:1] == LOOSE and row is not None:
                yield number, loose_id(key)

    def _place(self, digest: bytes) -> Where:
        return self._routing.digest(digest), BLOB + digest

    def _replaced(self, digest: bytes) -> Blob | None:
        """Where a blob is that is stored again; None also where nobody can say, for damage."""
        try:
            return self.locate(digest)
        except CorruptError:
            return None

    def _name(self, ref: BlobRef, blob: Blob, old: Blob | None) -> None:
        self._set(self._place(ref.digest), Row(0, blob.pack()))
        if old is not None:
            self._loosen(old)

    def _loosen(self, blob: Blob) -> None:
        self._set((blob.home, loose_key(blob.id)), Row(0, b""))

    def _holds(self, blob: Blob, payload: bytes) -> bool:
        """Whether the chunks of a blob are these bytes, and sound."""
        for number, at in enumerate(range(0, len(payload), limits.ROW_BYTES_MAX)):
            place = place_of(blob.id, number)
            if (blob.home, place) in self._all.chunks or (blob.home, place) in self._new.chunks:
                continue
            found = self._shards[blob.home].chunk(place)
            data = payload[at : at + limits.ROW_BYTES_MAX]
            if found is None or not is_sound(place, *found) or found[1] != data:
                return False
        return blob.size_bytes == len(payload)

    def _get(self, where: Where) -> Row | None:
        for layer in (self._new, self._all):
            if where in layer.rows:
                return layer.rows[where]
        return self._read(where)

    def _read(self, where: Where) -> Row | None:
        if where not in self._old:
            number, key = where
            self._old[where] = self._shards[number].get(key)
        return self._old[where]

    def _before(self, where: Where) -> Row | None:
        """What a row is before this epoch; damage costs who reads it, and not who replaces it."""
        try:
            return self._read(where)
        except CorruptError:
            number, key = where
            return UNKNOWN if self._shards[number].has(key) else None

    def _set(self, where: Where, row: Row | None) -> None:
        self._new.rows[where] = row


class Between:
    """What will be true of the keys whether an epoch is committed or taken back: a Moment."""

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch

    def is_empty(self, start: bytes, end: bytes) -> bool:
        """Whether no key k with start <= k < end exists before the epoch, nor behind it."""
        return self._epoch.is_empty(start, end) and self._epoch.was_empty(start, end)


class About(NamedTuple):
    """What all shards that take part in an epoch know of it."""

    epoch: int
    revision: int
    oldest: int
    members: list[int]
    before: list[int]


def next_state(state: State, part: Part, about: About) -> State:
    """What a shard will know behind its part of an epoch."""
    keys = blobs = blob_bytes = 0
    for key, row in part.rows.items():
        old = part.old[key]
        change = (row is not None) - (old is not None)
        if key[:1] == KEY:
            keys += change
        elif key[:1] == BLOB:
            blobs += change
            blob_bytes += _size(row) - _size(old)
    counts = (state.keys + keys, state.blobs + blobs, state.blob_bytes + blob_bytes)
    return State(*about, *counts)


def _size(row: Row | None) -> int:
    return 0 if row is None or row is UNKNOWN else read_blob(row.value).size_bytes
