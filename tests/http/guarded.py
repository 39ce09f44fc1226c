"""A server that asks for keys, and what tests say to it."""

import itertools

import msgspec
from rawhttp import Reply
from serving import Server

_numbers = itertools.count(1)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Guarded:
    """A server that asks for keys, and its owners."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def ask(self, method: str, path: str, token: str = "", body: bytes = b"") -> Reply:
        return self.server.ask(method, path, body, bearer(token) if token else {})

    def admin(self, method: str, path: str, **body: object) -> Reply:
        sent = msgspec.json.encode(body) if body else b""
        return self.ask(method, f"/admin/{path}", self.server.key, sent)

    def owner(self, **limits: object) -> str:
        """A new owner."""
        name = f"owner{next(_numbers)}"
        assert self.admin("PUT", f"owners/{name}", **limits).status == 201
        return name

    def key(self, owner: str, **about: object) -> str:
        """A new key of an owner."""
        return str(self.admin("POST", "keys", owner=owner, **about).json()["key"])
