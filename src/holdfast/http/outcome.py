"""What uploads and changes come to, as answers: once they have ended, from whichever thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast import wire
from holdfast.core.errors import BlobError
from holdfast.http.message import Answer, Request, defect_answer, error_answer, json_answer
from holdfast.http.queue import QUEUED, deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.digest import Digest
    from holdfast.core.pending import Pending
    from holdfast.depot.change import Place
    from holdfast.depot.content import Kept
    from holdfast.depot.ingest import Upload
    from holdfast.depot.names import Placed
    from holdfast.http.queue import Queue

COPY = wire.COPY_FROM.lower().encode()
MOVE = wire.MOVE_FROM.lower().encode()


class Intake(NamedTuple):
    """An admitted upload; `answer` makes the answer of what it comes to."""

    upload: Upload[Any]
    answer: Callable[[Any], Answer]
    place: Place | None = None
    """What it is going to be named, if anything."""
    queue: Queue | None = None
    """Where it goes if nobody is to wait for its commit."""

    def finish(self, done: Callable[[Answer], None]) -> None:
        """Store and name what was written, then call `done` from some thread, exactly once."""
        complete(self._finish, self.answer, done)

    def _finish(self) -> Pending[Any]:
        finishing = self.upload.finish()
        if self.place is None:
            return finishing
        return deferred(self.queue, self.place, self.upload.size_bytes, finishing)


def complete(
    begin: Callable[[], Pending[Any]],
    make: Callable[[Any], Answer],
    done: Callable[[Answer], None],
) -> None:
    """Begin something and call `done` with its answer, or that of its error, exactly once."""
    try:
        future = begin()
    except BlobError as error:
        done(error_answer(error))
        return
    except Exception as error:  # noqa: BLE001 - the client waits for an answer
        done(defect_answer(error, "site"))
        return

    future.add_done_callback(lambda ended: done(ended_answer(ended, make)))


def ended_answer(ended: Pending[Any], make: Callable[[Any], Answer]) -> Answer:
    """Answer what something came to that has ended."""
    error = ended.exception()
    if error is None:
        result = ended.result()
        return queued_answer() if result is QUEUED else make(result)
    return error_answer(error) if isinstance(error, BlobError) else defect_answer(error, "commit")


def is_transfer(request: Request) -> bool:
    """Whether a PUT copies or moves instead of bringing bytes."""
    return COPY in request.headers or MOVE in request.headers


def kept_answer(digest: Digest, *, is_new: bool) -> Answer:
    """Answer a PUT on the content face."""
    body = b'{"hash":"%b"}' % str(digest).encode()
    head = b'etag: "%b"\r\n' % digest.hex().encode()
    return json_answer(201 if is_new else 200, body, head)


def newly_kept(kept: Kept) -> Answer:
    """Answer a PUT of the content face that brought bytes."""
    return kept_answer(kept.ref.digest, is_new=kept.is_new)


def placed_answer(placed: Placed, path: bytes) -> Answer:
    """Answer with an entry that is durable now."""
    entry = placed.entry
    head = b"etag: %b\r\nlocation: %b\r\n" % (entry.etag.encode(), path)
    return json_answer(201 if placed.is_new else 200, wire.entry_json(entry), head)


def queued_answer() -> Answer:
    """Answer that something is going to be done, and nothing of it is durable."""
    return json_answer(202, b'{"queued":true}')


def removed_answer(result: object) -> Answer:
    """Answer that something is gone, whether it was there or not."""
    del result
    return Answer(204, b"", length=-1)
