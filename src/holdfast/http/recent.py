"""Recently served paths: the head of a plain answer, ready while nothing behind it changed.

Only heads are kept, never bytes of blobs: those are read and verified for every request. What is
kept holds while the KV has no newer commit, or, for an entry, when a look shows that the newer
ones left it alone. The same is found by the bytes of a whole request: a head that was parsed once
says the same when it comes again, so the parser need not see it. Used on the loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.depot import catalog
from holdfast.http import route
from holdfast.http.message import HEAD_END

if TYPE_CHECKING:
    from holdfast.core.digest import Digest
    from holdfast.core.kv import KV
    from holdfast.depot.engine import Spots
    from holdfast.depot.policies import Policies
    from holdfast.http.message import Answer
    from holdfast.http.queue import Queue
    from holdfast.http.route import Target
    from holdfast.log.spot import Spot
    from holdfast.stores.coded import CodedSpot

ROOM_BYTES = limits.SMALL_BLOB_BYTES_MAX + limits.KIB
PATH_BYTES = 700  # of memory, about, for one path beside its name and head
HEAD_BYTES = 200  # for one head beside its bytes
HEAD_BYTES_MAX = limits.KIB  # of a head that is kept; a longer one is parsed each time
NO_KEY = b""
NEVER = -1


class Known:
    """One path; `revision` is the newest at which it was seen to be current."""

    __slots__ = (
        "body_bytes",
        "changes",
        "coding",
        "digest",
        "entry_revision",
        "head",
        "key",
        "meters",
        "revision",
        "route",
        "spot",
    )

    def __init__(self, target: Target, answer: Answer, digest: Digest, at: tuple[int, int]) -> None:
        is_entry = target.route == route.BLOB
        name = target.name.encode()
        self.route = target.route
        self.meters = target.meters
        self.key = catalog.entry_key(target.bucket, name) if is_entry else NO_KEY
        self.digest = digest
        self.coding = answer.coding
        self.body_bytes = len(answer.body)
        self.head = answer.head + answer.content_length + HEAD_END
        """From behind the lines that all answers share to the empty line."""
        self.revision, self.changes = at
        self.entry_revision = 0
        self.spot: Spot | CodedSpot | None = None

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        return PATH_BYTES + len(self.head) + len(self.key)

    def forget(self) -> None:
        """Be of no use any more to whoever still has it."""
        self.head = self.key = NO_KEY
        self.revision = self.entry_revision = NEVER
        self.spot = None


class Recent:
    """What is known of paths, and of heads of requests; the oldest go first when it is too much."""

    def __init__(
        self,
        kv: KV,
        spot: Spots,
        policies: Policies,
        queue: Queue,
    ) -> None:
        self._kv = kv
        self._queue = queue
        self._policies = policies
        self._spot = spot
        self._paths: OrderedDict[bytes, Known] = OrderedDict()
        self._paths_bytes = 0
        self._heads_bytes = 0
        self._room = memoryview(bytearray(ROOM_BYTES))
        self.heads: OrderedDict[bytes, Known] = OrderedDict()
        """What whole requests ask for that ask for nothing else; it may be out of date."""

    def find(self, path: bytes, head: bytes) -> Known | None:
        """What is known of a path; from now on by its head too."""
        known = self._paths.get(path)
        if known is not None and len(head) <= HEAD_BYTES_MAX and self.heads.get(head) is not known:
            self._keep_head(head, known)
        return known

    def body(self, known: Known) -> memoryview | None:
        """Read and verify the bytes, which are good until the next call.

        None when something changed, failed, or would wait for a disk. The long way meets the same
        again and says what it is.
        """
        try:
            if known.revision != self._kv.horizon() and not self._is_current(known):
                return None
            if self._queue.writes and self._queue.holds(known.key):
                return None
            spot = known.spot or self._look_up(known)
            body = None if spot is None else spot.read(self._room)
            if body is not None and len(body) != known.body_bytes:
                body = None  # stored again since, in another form
        except Exception:  # noqa: BLE001 - whatever it is, the long way answers
            body = None
        if body is None:
            known.spot = None
        return body

    def keep(self, path: bytes, target: Target, answer: Answer, at: tuple[int, int]) -> None:
        """Remember a plain answer, unless its entry changed since.

        It was made at, or behind, the revision of the KV and the count of changes in `at`. A
        commit can be read a moment before `revision` counts it, so only an entry that is no
        newer than `revision` is the one that the answer was made from.
        """
        if answer.digest is None:
            return
        known = Known(target, answer, answer.digest, at)
        if known.key:
            stored = self._kv.get(known.key)
            if stored is None or stored.revision > known.revision:
                return
            known.entry_revision = stored.revision
        self._drop(path)
        self._paths[path] = known
        self._paths_bytes += len(path) + known.size_bytes
        while self._paths_bytes > limits.RECENT_PATHS_BYTES_MAX:
            self._drop(next(iter(self._paths)))

    def _keep_head(self, head: bytes, known: Known) -> None:
        if head not in self.heads:
            self._heads_bytes += HEAD_BYTES + len(head)
        self.heads[head] = known
        while self._heads_bytes > limits.RECENT_HEADS_BYTES_MAX:
            oldest, _ = self.heads.popitem(last=False)
            self._heads_bytes -= HEAD_BYTES + len(oldest)

    def _drop(self, path: bytes) -> None:
        known = self._paths.pop(path, None)
        if known is not None:
            self._paths_bytes -= len(path) + known.size_bytes
            known.forget()

    def _is_current(self, known: Known) -> bool:
        """Whether newer commits left the entry alone."""
        revision = self._kv.revision()
        stored = self._kv.get(known.key) if known.key else None
        if stored is None or stored.revision != known.entry_revision:
            return False
        if known.changes != self._policies.changes:
            return False
        known.revision = revision
        return True

    def _look_up(self, known: Known) -> Spot | CodedSpot | None:
        spot = self._spot(known.digest, known.coding)
        if spot is not None and spot.record_bytes <= ROOM_BYTES:
            known.spot = spot
        return known.spot
