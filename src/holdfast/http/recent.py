"""Recently served paths: the head of a plain answer, ready while nothing behind it changed.

Only heads are kept, never bytes of blobs: those are read and verified for every request. What is
kept holds while the KV has no newer commit, or, for an entry, when a look shows that the newer
ones left it alone. Used on the loop's thread only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import BlobError
from holdfast.depot import catalog
from holdfast.http import route

if TYPE_CHECKING:
    from holdfast.core.digest import Digest
    from holdfast.core.kv import KV
    from holdfast.core.seams import Buffer
    from holdfast.core.store import Store
    from holdfast.http.message import Answer
    from holdfast.http.route import Target

PATHS_MAX = 8192
NO_KEY = b""


class Known:
    """One path; `revision` is the newest at which it was seen to be current."""

    __slots__ = ("digest", "entry_revision", "head", "key", "revision", "route")

    def __init__(self, target: Target, digest: Digest, head: bytes, revision: int) -> None:
        is_entry = target.route == route.BLOB
        name = target.name.encode()
        self.route = target.route
        self.key = catalog.entry_key(target.bucket, name) if is_entry else NO_KEY
        self.digest = digest
        self.head = head
        self.revision = revision
        self.entry_revision = 0


class Recent:
    """Heads of at most `PATHS_MAX` paths; when it is full it begins anew."""

    def __init__(self, store: Store, kv: KV) -> None:
        self._store = store
        self._kv = kv
        self._known: dict[bytes, Known] = {}

    def find(self, path: bytes) -> Known | None:
        """What is known of a path, if it is current."""
        known = self._known.get(path)
        if known is None or known.revision == self._kv.horizon():
            return known
        revision = self._kv.revision()
        stored = self._kv.get(known.key) if known.key else None
        if stored is None or stored.revision != known.entry_revision:
            del self._known[path]
            return None
        known.revision = revision
        return known

    def body(self, known: Known) -> Buffer | None:
        """Read and verify the bytes; None when that failed or would wait for a disk.

        The long way meets the same failure again and says what it is.
        """
        try:
            source = self._store.open(known.digest, wait=False)
        except BlobError:
            return None
        return None if source is None else source.read(source.size_bytes)

    def keep(self, path: bytes, target: Target, answer: Answer, revision: int) -> None:
        """Remember a plain answer made at `revision` or later, unless its entry changed since.

        A commit can be read a moment before `revision` counts it, so only an entry that is no
        newer than `revision` is the one that the answer was made from.
        """
        digest = answer.digest
        if digest is None:
            return
        known = Known(target, digest, answer.head + answer.content_length, revision)
        if known.key:
            stored = self._kv.get(known.key)
            if stored is None or stored.revision > revision:
                return
            known.entry_revision = stored.revision
        if len(self._known) >= PATHS_MAX:
            self._known.clear()
        self._known[path] = known
