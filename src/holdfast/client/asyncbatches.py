"""Many things in few requests, awaited: the steps that both faces of AsyncClient share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from holdfast.client import many
from holdfast.client.many import AT_ONCE, Retrieval
from holdfast.core.errors import BlobError, bare
from holdfast.core.many import paged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from holdfast.client.asynclink import AsyncLink
    from holdfast.wire import Found

Thing = TypeVar("Thing")
Result = TypeVar("Result")


async def retrieve(
    link: AsyncLink, target: str, names: Iterable[str | BlobError]
) -> AsyncIterator[bytes | BlobError]:
    """Read blobs, a page in each request; names that are errors already stay so."""
    for page in paged(names):
        good = [name for name in page if isinstance(name, str)]
        outcomes = _retrieve(link, Retrieval(target, good, link.options.retries))
        for name in page:
            yield name if isinstance(name, BlobError) else await anext(outcomes)


async def _retrieve(link: AsyncLink, retrieval: Retrieval) -> AsyncIterator[bytes | BlobError]:
    while not retrieval.is_done():
        try:
            _, chunks = await link.stream(retrieval.call())
        except BlobError as error:
            for refused in retrieval.refused(error):
                yield refused
            return
        try:
            while not retrieval.is_done():
                for found in retrieval.feed(await chunks.expect()):
                    yield found
            await chunks.next()  # the end, so that the connection serves again
        except BlobError as error:
            for broken in retrieval.broke(error):
                yield broken
        finally:
            await chunks.aclose()


async def answers(
    link: AsyncLink, target: str, verb: str, names: Iterable[str | BlobError]
) -> AsyncIterator[Found]:
    """Describe or delete things, a page in each request."""
    for page in paged(names):
        good = [name for name in page if isinstance(name, str)]
        found: list[Found]
        try:
            found = await link.call(many.ask(target, verb, good)) if good else []
        except BlobError as error:
            found = [bare(error)] * len(good)
        outcomes = iter(found)
        for name in page:
            yield name if isinstance(name, BlobError) else next(outcomes)


async def together(
    verb: Callable[[Thing], Awaitable[Result]], things: Iterable[Thing]
) -> list[Result | BlobError]:
    """Call a verb for things, several at once; outcomes in their order."""
    results: dict[int, Result | BlobError] = {}
    failures: list[BaseException] = []
    gate = anyio.Semaphore(AT_ONCE)

    async def call(at: int, thing: Thing) -> None:
        try:
            results[at] = await verb(thing)
        except BlobError as error:
            results[at] = bare(error)
        except Exception as error:  # noqa: BLE001 - raised below, as the blocking twin does
            failures.append(error)
            group.cancel_scope.cancel()
        finally:
            gate.release()

    async with anyio.create_task_group() as group:
        for at, thing in enumerate(things):
            await gate.acquire()
            group.start_soon(call, at, thing)
    if failures:
        raise failures[0]
    return [results[at] for at in sorted(results)]
