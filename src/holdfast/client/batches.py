"""Many things in few requests, blocking: the steps that both faces of Client share."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from holdfast.client import many
from holdfast.client.many import AT_ONCE, Retrieval
from holdfast.core.errors import BlobError
from holdfast.core.many import outcome, paged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdfast.client.link import Link
    from holdfast.wire import Found

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def retrieve(
    link: Link, target: str, names: Iterable[str | BlobError]
) -> Iterator[bytes | BlobError]:
    """Read blobs, a page in each request; names that are errors already stay so."""
    for page in paged(names):
        good = [name for name in page if isinstance(name, str)]
        outcomes = _retrieve(link, Retrieval(target, good, link.options.retries))
        for name in page:
            yield name if isinstance(name, BlobError) else next(outcomes)


def _retrieve(link: Link, retrieval: Retrieval) -> Iterator[bytes | BlobError]:
    while not retrieval.is_done():
        try:
            _, chunks = link.stream(retrieval.call())
        except BlobError as error:
            yield from retrieval.refused(error)
            return
        try:
            while not retrieval.is_done():
                yield from retrieval.feed(chunks.expect())
            chunks.next()  # the end, so that the connection serves again
        except BlobError as error:
            yield from retrieval.broke(error)
        finally:
            chunks.close()


def answers(
    link: Link, target: str, verb: str, names: Iterable[str | BlobError]
) -> Iterator[Found]:
    """Describe or delete things, a page in each request."""
    for page in paged(names):
        good = [name for name in page if isinstance(name, str)]
        found = outcome(link.call, many.ask(target, verb, good)) if good else []
        outcomes = iter([found] * len(good) if isinstance(found, BlobError) else found)
        for name in page:
            yield name if isinstance(name, BlobError) else next(outcomes)


def together(verb: Callable[[Thing], Result], things: Iterable[Thing]) -> list[Result | BlobError]:
    """Call a verb for things, several at once; outcomes in their order."""
    results: list[Result | BlobError] = []
    pending: deque[Future[Result | BlobError]] = deque()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="holdfast-client") as pool:
        try:
            for thing in things:
                pending.append(pool.submit(outcome, verb, thing))
                if len(pending) > 2 * AT_ONCE:
                    results.append(pending.popleft().result())
            results += [each.result() for each in pending]
        finally:
            pool.shutdown(cancel_futures=True)
    return results
