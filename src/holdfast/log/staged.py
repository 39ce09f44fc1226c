"""A blob on its way into a batch, with the commit that names it.

Whether it is there already is looked up in the batch itself. So an upload that finds its bytes
stored, and the reference that it makes to them, stand between the same two batches: whoever removes
blobs that nothing refers to, and looks for references in its own batch, never comes between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import BlobError, UnavailableError
from holdfast.log.record import RAW

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.digest import BlobRef
    from holdfast.log.batch import Batch
    from holdfast.log.log import Log


class StagedBlob:
    """Whole bytes for one log; its `stage` runs in the writer's thread."""

    __slots__ = ("_log", "_payload", "ref")
    is_stored = False

    def __init__(self, log: Log, ref: BlobRef, payload: bytes) -> None:
        self._log = log
        self._payload = payload
        self.ref = ref

    @property
    def size_bytes(self) -> int:
        """What the batch takes along."""
        return self.ref.size_bytes

    def stage(self, batch: Batch) -> None:
        """Append the blob unless a good copy is there; its digest is one of the request's needs."""
        if not self._is_stored(batch):
            batch.add_blob(self.ref.digest, self._payload, self.ref.size_bytes, RAW)

    def _is_stored(self, batch: Batch) -> bool:
        """Whether a good copy is there; a damaged one is no reason to refuse a new one."""
        place = batch.locate(self.ref.digest)
        if place is None:
            return False
        if (place.segment_id, place.offset) >= batch.start[:2]:
            return True  # in this very batch
        try:
            return self._log.read(self.ref.digest, place, wait=True) is not None
        except (BlobError, FileNotFoundError):
            return False


class StoredBlob:
    """A blob that is durable outside of the log, of which only the name is on its way."""

    __slots__ = ("_is_there", "ref")
    is_stored = True
    size_bytes = 0

    def __init__(self, ref: BlobRef, is_there: Callable[[], bool]) -> None:
        self._is_there = is_there
        self.ref = ref

    def stage(self, batch: object) -> None:
        """Ask whether it is still there, in a batch of the log or an epoch of shards.

        Raises:
            UnavailableError: it was removed since, as nothing named it.
        """
        del batch
        if not self._is_there():
            raise UnavailableError("the bytes were removed before they had a name: send them again")
