"""How commands ask the admin face of a server."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import click
import msgspec

from holdfast.cli.store import DEFAULT_STORE
from holdfast.config.target import KEY_VARIABLE
from holdfast.core.errors import InvalidError, UnavailableError

F = TypeVar("F", bound=Callable[..., object])

server_option = click.option(
    "-s",
    "--store",
    metavar="URL",
    envvar="HOLDFAST_STORE",
    default=DEFAULT_STORE,
    show_default=True,
    help="The server.",
)


class Desk:
    """The admin face of a server."""

    def __init__(self, url: str) -> None:
        from holdfast.client.blocking import Link  # noqa: PLC0415 - httpx is slow to import
        from holdfast.client.options import ClientOptions  # noqa: PLC0415

        self._link = Link(url, ClientOptions(key=os.environ.get(KEY_VARIABLE, "")))

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
        return self._link.call(call)

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
        return self._link.call(Call("GET", target + query, lambda answer: _read(answer.body)))

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


@contextmanager
def desk_of(store: str) -> Iterator[Desk]:
    """Open the admin face of a server.

    Raises:
        InvalidError: the store is no server.
    """
    if not store.startswith(("http://", "https://")):
        raise InvalidError("store", store, "the URL of a server")
    desk = Desk(store)
    try:
        yield desk
    finally:
        desk.close()


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body or b"{}")
    except msgspec.DecodeError as error:
        raise UnavailableError(f"the server's answer is not ours: {error}") from None
    if not isinstance(found, dict):
        raise UnavailableError("the server's answer is not ours")
    return found
