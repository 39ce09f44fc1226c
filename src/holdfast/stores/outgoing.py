"""A blob on its way into an object store.

A blob of one part is held until its commit and stored by one request. A larger one leaves part by
part while more of it comes, at most `limits.OBJECT_PARTS_AHEAD` at once, under names of its own
that say nothing of the blob: its digest is known at the end only. What names them is stored last,
so nobody sees a blob of which a part is missing; and what is closed before that removes its parts.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core.closing import Closing
from holdfast.core.errors import BlobError
from holdfast.core.limits import OBJECT_PARTS_AHEAD
from holdfast.core.pending import Promise
from holdfast.stores import footer, naming
from holdfast.stores.footer import Checksums

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from holdfast.core.digest import BlobRef
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer
    from holdfast.log.staged import StoredBlob
    from holdfast.stores.objects import ObjectStore
    from holdfast.stores.remote import Remote


class Upload:
    """Parts on their way; by one thread at a time."""

    def __init__(self, token: str, remote: Remote, pool: ThreadPoolExecutor) -> None:
        self.token = token
        self.count = 0
        self._remote = remote
        self._pool = pool
        self._sent: deque[Future[None]] = deque()

    def send(self, data: bytes) -> None:
        """Send the next part, waiting for an earlier one while too many are on their way.

        Raises:
            FullError, UnavailableError: a part could not be stored.
        """
        while len(self._sent) >= OBJECT_PARTS_AHEAD:
            self._sent.popleft().result()
        name = naming.part(self.token, self.count)
        self.count += 1
        self._sent.append(self._pool.submit(self._remote.write, name, data))

    def finish(self) -> None:
        """Wait until all parts are stored.

        Raises:
            FullError, UnavailableError: a part could not be stored.
        """
        while self._sent:
            self._sent.popleft().result()

    def settle(self) -> None:
        """Wait until nothing is on its way, whatever came of it."""
        while self._sent:
            self._sent.popleft().exception()


class ObjectSink(Closing):
    """One blob on its way into an ObjectStore: the part that is being filled, and its upload."""

    def __init__(self, store: ObjectStore, part_bytes: int) -> None:
        self._store = store
        self._part_bytes = part_bytes
        self._checksums = Checksums()
        self._pieces: list[bytes] = []
        self._room_bytes = part_bytes
        self._upload: Upload | None = None
        self._is_open = True

    def write(self, chunk: Buffer) -> None:
        """Copy the next bytes; each time a part is full and more comes, send it."""
        assert self._is_open
        view = memoryview(chunk)
        self._checksums.update(view)
        try:
            while view:
                if self._room_bytes == 0:
                    self._send()
                piece = view[: self._room_bytes]
                self._pieces.append(bytes(piece))
                self._room_bytes -= len(piece)
                view = view[len(piece) :]
        except BlobError:
            self.close()
            raise

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Make the blob appear; it is stored when this returns, and the future has ended."""
        assert self._is_open
        assert ref.size_bytes == self._checksums.size_bytes
        done: Promise[None] = Promise()
        try:
            self._finish(ref)
        except BlobError as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        finally:
            self.close()
        return done

    def stage(self, ref: BlobRef) -> StoredBlob:
        """Make the blob appear, for it cannot wait for a commit."""
        assert self._is_open
        assert ref.size_bytes == self._checksums.size_bytes
        try:
            self._finish(ref)
            return self._store.stored(ref)
        finally:
            self.close()

    def close(self) -> None:
        """Discard unless committed; what cannot be removed now is swept later."""
        self._is_open = False
        self._pieces.clear()
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.settle()
            with suppress(BlobError):
                self._store.discard(upload)

    def _finish(self, ref: BlobRef) -> None:
        if self._upload is None:
            self._pieces.append(footer.pack(ref, self._checksums.finish()))
            self._store.publish_one(ref, self._taken())
            return
        self._send()
        self._upload.finish()
        upload, self._upload = self._upload, None  # its parts may be a blob from now on
        self._store.publish_parts(ref, upload, self._checksums.finish())

    def _send(self) -> None:
        if self._upload is None:
            self._upload = self._store.begin()
        self._upload.send(self._taken())
        self._room_bytes = self._part_bytes

    def _taken(self) -> bytes:
        """Take the part out, so that it is not held twice for long."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
