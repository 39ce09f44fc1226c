"""How commands ask the admin face of a server."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

import click
import msgspec

from holdfast import wire
from holdfast.cli.store import DEFAULT_STORE, Target, opened
from holdfast.config.target import KEY_VARIABLE, is_server
from holdfast.core.errors import InvalidError, UnavailableError
from holdfast.core.urls import shown_url

if TYPE_CHECKING:
    from holdfast.client.calls import Call
    from holdfast.depot.depot import Depot

T = TypeVar("T")

server_option = click.option(
    "-s",
    "--store",
    metavar="URL",
    envvar="HOLDFAST_STORE",
    default=DEFAULT_STORE,
    show_default=True,
    help="The server.",
)


class Carry(Protocol):
    """Carries a call to an admin face, and its answer back."""

    def __call__(self, call: "Call[T]", /) -> T:
        """Carry one."""


class Desk:
    """An admin face: that of a server, or of a folder that is open in this process."""

    def __init__(self, carry: Carry, settle: Callable[[], None] = lambda: None) -> None:
        self._carry = carry
        self.settle = settle
        """Do now what a server does of itself soon."""

    def ask(self, method: str, *path: str, **members: object) -> dict[str, Any]:
        """Send a request, with these members as its body, and read what comes back.

        Raises:
            BlobError: what the server answered.
        """
        from holdfast.client.calls import Call  # noqa: PLC0415

        target = "/admin/" + "/".join(quote(part, safe="~") for part in path)
        body = msgspec.json.encode(members) if members else b""
        call = Call(
            method,
            target,
            lambda answer: _read(answer.body),
            repeatable=method != "POST",
            body=body,
        )
        return self._carry(call)

    def every(self, name: str, *path: str) -> Iterator[dict[str, Any]]:
        """Yield the things of all pages."""
        cursor = ""
        while True:
            page = self._page(cursor, *path)
            yield from page[name]
            if page["next"] is None:
                return
            cursor = page["next"]

    def _page(self, cursor: str, *path: str) -> dict[str, Any]:
        from holdfast.client.calls import Call  # noqa: PLC0415

        target = "/admin/" + "/".join(quote(part, safe="~") for part in path)
        query = f"?cursor={quote(cursor, safe='')}" if cursor else ""
        return self._carry(Call("GET", target + query, lambda answer: _read(answer.body)))


@contextmanager
def desk_of(store: str) -> Iterator[Desk]:
    """Open the admin face of a server.

    Raises:
        InvalidError: the store is no server.
    """
    if not is_server(store):
        raise InvalidError("store", shown_url(store), "the URL of a server")
    from holdfast.client.link import Link  # noqa: PLC0415 - httpx is slow to import
    from holdfast.client.options import ClientOptions  # noqa: PLC0415

    link = Link(store, ClientOptions(key=os.environ.get(KEY_VARIABLE, "")))
    try:
        yield Desk(link.call)
    finally:
        link.close()


@contextmanager
def any_desk_of(store: str) -> Iterator[Desk]:
    """Open the admin face of a server, or the same over a folder.

    Raises:
        NotFoundError: the folder is not there.
    """
    if is_server(store):
        with desk_of(store) as desk:
            yield desk
        return
    from holdfast.depot.depot import Depot  # noqa: PLC0415 - an engine is much to import

    with opened(Target(store, wire.DEFAULT_BUCKET)) as depot:
        assert isinstance(depot, Depot)
        yield Desk(_Inside(depot), lambda: deque(depot.engine.expiry.steps(), maxlen=0).clear())


class _Inside:
    """Carries calls to the admin face over a depot."""

    def __init__(self, depot: "Depot") -> None:
        from holdfast.http.site import Site  # noqa: PLC0415 - and so is a server

        self._site = Site(depot)

    def __call__(self, call: "Call[T]", /) -> T:
        from holdfast.client.calls import Answer  # noqa: PLC0415
        from holdfast.http import route  # noqa: PLC0415
        from holdfast.http.message import Request  # noqa: PLC0415

        path, _, query = call.target.encode().partition(b"?")
        request = Request(call.method, path, query, {}, "")
        target = route.resolve(call.method, path)
        answer = self._site.desk.answer(request, target, call.body)
        return call.read(Answer(answer.status, {}, answer.body))


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body or b"{}")
    except msgspec.DecodeError as error:
        raise UnavailableError(f"the server's answer is not ours: {error}") from None
    if not isinstance(found, dict):
        raise UnavailableError("the server's answer is not ours")
    return found
