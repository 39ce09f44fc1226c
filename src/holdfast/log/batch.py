"""A batch: what one group commit appends, staged in memory over one index transaction.

What the batch's requests are going to read is fetched in one call before the first is staged, and
what they wrote goes to the index in one call after the last: each call into LMDB gives the
interpreter lock away, and a thread that wants it back has to wait.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import DIGEST_BYTES
from holdfast.core.groupcommit import Job, Result
from holdfast.core.kv import Versioned
from holdfast.log.accounts import State, write_bytes
from holdfast.log.index import Last, Location, Position, segment_of, split
from holdfast.log.record import (
    HEADER_BYTES,
    NO_NAME,
    Carried,
    Header,
    Kind,
    Writes,
    checksum,
    encode_carried,
    encode_commits,
    encode_drop,
    pack,
    revision_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.seams import Buffer
    from holdfast.log.index import Index, Txn


class Claim(IntEnum):
    """What a request may use of the reserve, by the quarters of it that it has to leave.

    Names are deleted, then blobs removed that have none, and then compaction frees their space: the
    way there must stay open to its end.
    """

    WRITE = 4
    DELETE = 2
    REMOVE = 1
    COMPACT = 0

    @property
    def kept_bytes(self) -> int:
        """What has to be left."""
        return limits.RESERVE_BYTES * self // 4


class Needs:
    """What a request reads: keys of the KV, or digests."""

    __slots__ = ("digests", "keys")

    def __init__(self, keys: Sequence[bytes] = (), digests: Sequence[bytes] = ()) -> None:
        self.keys = keys
        self.digests = digests


class LogJob(Job["Batch", Result]):
    """A request to the log; `claim` says what it may use of the reserve of a full disk."""

    __slots__ = ("claim", "needs")

    def __init__(
        self,
        stage: Callable[[Batch], Result],
        size_bytes: int,
        needs: Needs,
        claim: Claim,
    ) -> None:
        super().__init__(stage, size_bytes, frees=claim is not Claim.WRITE)
        self.needs = needs
        self.claim = claim


class Between:
    """What will be true of the KV whether a batch is written or undone: a Moment."""

    def __init__(self, batch: Batch, index: Index) -> None:
        self._batch = batch
        self._index = index

    def is_empty(self, start: bytes, end: bytes) -> bool:
        """Whether no key k with start <= k < end exists before the batch, nor behind it."""
        return self._batch.is_empty(start, end) and not self._index.scan(start, end, 1)


class End(NamedTuple):
    """The place that a batch is written to."""

    start: Position
    salt: int
    age_s: int


class Batch:
    """Records that are written together behind `start` of one segment."""

    def __init__(self, index: Index, txn: Txn, tail: End) -> None:
        self._index = index
        self._txn = txn
        self._salt = tail.salt
        self._age_s = tail.age_s
        self.start = tail.start
        self.end = tail.start.offset
        self.buffers: list[Buffer] = []
        self.tables: set[int] = set()
        """The first bytes of keys that change."""
        self._commits: list[Writes] = []
        self._keys: dict[bytes, Versioned | None] = {}
        self._places: dict[bytes, int] = {}
        self._changed_keys: dict[bytes, Versioned | None] = {}
        self._blobs: dict[bytes, Location] = {}
        self._new_blobs: dict[bytes, Location] = {}
        self._live: dict[int, int] = {self.start.segment_id: 0}
        self._deletion_bytes = 0
        self._last: Last | None = None

    def fetch(self, needs: Sequence[Needs]) -> None:
        """Read what the requests need, at once."""
        wanted: dict[bytes, None] = {}
        for need in needs:
            wanted.update(dict.fromkeys(need.keys))
        keys = list(wanted)
        digests = [digest for need in needs for digest in need.digests]
        if keys:
            found = self._index.get_many(self._txn, keys)
            for key in keys:
                self._remember(key, found.get(key))
        self._blobs = self._index.locate_many(self._txn, digests) if digests else {}

    def _remember(self, key: bytes, stored: bytes | None) -> Versioned | None:
        """Take over what the index has of a key."""
        if stored is None:
            self._keys[key] = None
            return None
        found = self._keys[key] = split(stored)
        self._places[key] = segment_of(stored)
        return found

    # Blobs

    def locate(self, digest: bytes) -> Location | None:
        """Where a blob that was named in the needs lies, or will."""
        return self._blobs.get(digest)

    def add_blob(self, digest: bytes, payload: Buffer, content_bytes: int, codec: int) -> None:
        """Append a blob and index it."""
        location = Location(self.start.segment_id, self.end, len(payload), content_bytes, codec)
        self._append(Kind.BLOB, digest, payload, content_bytes, codec)
        self._forget_blob(digest)
        self._live[location.segment_id] += location.record_bytes
        self._blobs[digest] = self._new_blobs[digest] = location

    def remove_blobs(self, digests: Sequence[bytes]) -> None:
        """Append the removal of blobs and forget them."""
        unknown = [digest for digest in digests if digest not in self._blobs]
        self._blobs.update(self._index.locate_many(self._txn, unknown))
        self._append(Kind.REMOVE, NO_NAME, b"".join(digests), 0, 0)
        self._deletion_bytes += HEADER_BYTES + len(digests) * DIGEST_BYTES
        for digest in digests:
            self._forget_blob(digest)
            self._blobs.pop(digest, None)
            self._new_blobs.pop(digest, None)
            self._index.remove_blob(self._txn, digest)

    def _forget_blob(self, digest: bytes) -> None:
        """Count the record that a blob has now as dead."""
        old = self._blobs.get(digest)
        if old is not None:
            self._live[old.segment_id] = self._live.get(old.segment_id, 0) - old.record_bytes

    # What compaction moves

    def place_of(self, key: bytes) -> int:
        """The segment that holds the newest write of a key that exists."""
        return self._places[key]

    def carry(self, writes: Carried) -> None:
        """Append older writes again, each the newest of its key, with their own revisions."""
        self._append(Kind.CARRY, NO_NAME, encode_carried(writes), 0, 0)
        for revision, key, value in writes:
            self._set(key, None if value is None else Versioned(value, revision))

    def carry_removals(self, digests: Sequence[bytes]) -> None:
        """Append removals again, of blobs that are not there."""
        self._append(Kind.REMOVE, NO_NAME, b"".join(digests), 0, 0)
        self._deletion_bytes += HEADER_BYTES + len(digests) * DIGEST_BYTES

    def forget_commits(self, revisions: Sequence[int], newest: int) -> None:
        """Forget where commits lie, up to `newest`, which are going to be dropped."""
        if revisions:
            self._index.remove_batches(self._txn, revisions)
            if self._index.history(self._txn) <= newest:
                self._index.set_history(self._txn, newest + 1)

    def is_oldest(self, segment_id: int) -> bool:
        """Whether no older segment is left that a deletion could still be about."""
        return min(self._index.accounts.rows(self._txn)) == segment_id

    def drop(self, segment_id: int) -> bool:
        """Append that a segment is not needed any more; False when it is."""
        row = self._index.accounts.get(self._txn, segment_id)
        if row is None or row.live_bytes != 0 or segment_id == self.start.segment_id:
            return False
        self._append(Kind.DROP, NO_NAME, encode_drop([segment_id]), 0, 0)
        self._index.accounts.put(self._txn, segment_id, row._replace(state=State.DROPPED))
        return True

    # Keys

    def get(self, key: bytes) -> Versioned | None:
        """Read a key as the requests before in this batch left it."""
        if key not in self._keys:
            return self._remember(key, self._index.stored(self._txn, key))
        return self._keys[key]

    def get_many(self, keys: Sequence[bytes]) -> list[Versioned | None]:
        """Read keys, most of which were named in the needs."""
        known = self._keys
        return [known[key] if key in known else self.get(key) for key in keys]

    def is_empty(self, start: bytes, end: bytes) -> bool:
        """Whether no key k with start <= k < end exists now."""
        self._write_keys()
        return self._index.is_empty(start, end, self._txn)

    def adopt(self, revision: int) -> int:
        """Append an empty commit behind `revision`, before which history is not kept any more.

        No commit may be in this batch yet.
        """
        assert not self._commits
        assert revision >= self.start.revision
        self.start = self.start._replace(revision=revision)
        self._index.set_history(self._txn, revision + 1)
        return self.add_commit([])

    def add_commit(self, writes: Writes) -> int:
        """Apply the writes of one commit and return its revision."""
        self._commits.append(writes)
        revision = self.start.revision + len(self._commits)
        for key, value in writes:
            self._set(key, None if value is None else Versioned(value, revision))
        return revision

    def _set(self, key: bytes, new: Versioned | None) -> None:
        """Change a key, and count what it had as dead."""
        here = self.start.segment_id
        old = self._keys[key] if key in self._keys else self.get(key)
        if old is not None:
            place = self._places[key]
            if new is not None and place == here and len(new.value) == len(old.value):
                self._keys[key] = self._changed_keys[key] = new
                return  # as a counter does, which comes again and again
            dead_bytes = write_bytes(key, old.value)
            self._live[place] = self._live.get(place, 0) - dead_bytes
        if new is None:
            self._deletion_bytes += write_bytes(key, b"")
        else:
            self._live[here] += write_bytes(key, new.value)
            self._places[key] = here
        self._keys[key] = self._changed_keys[key] = new

    def seal(self) -> Position:
        """Append the commits as one record, behind all blobs, and return where the batch ends."""
        if self._commits:
            first = self.start.revision + 1
            self._index.put_batch(self._txn, first, self.start.segment_id, self.end)
            self._append(Kind.COMMIT, revision_name(first), encode_commits(self._commits), 0, 0)
        revision = self.start.revision + len(self._commits)
        end = Position(self.start.segment_id, self.end, revision)
        if self.buffers:
            self._write_keys()
            self._index.put_blobs(self._txn, self._new_blobs)
            self._index.set_applied(self._txn, end, self._last)
            deletions = (self.start.segment_id, self._deletion_bytes)
            live = {place: delta for place, delta in self._live.items() if delta}
            self._index.accounts.add(self._txn, live, deletions if self._deletion_bytes else None)
        return end

    def _write_keys(self) -> None:
        self.tables.update(key[0] for key in self._changed_keys)
        self._index.put_keys(self._txn, self._changed_keys, self.start.segment_id)
        self._changed_keys = {}

    def _append(
        self, kind: Kind, name: bytes, payload: Buffer, content_bytes: int, codec: int
    ) -> None:
        total = checksum(payload)
        sizes = (len(payload), content_bytes, self.start.offset)
        header = Header(kind, codec, *sizes, name, self._age_s, total)
        packed = pack(header, self._salt, self.end)
        self._last = Last(self.start.segment_id, self.end, packed)
        self.buffers.append(packed)
        self.buffers.append(payload)
        self.end += HEADER_BYTES + len(payload)
