"""Which path means what: one table for the hot path, the ASGI app and /openapi.json."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from holdfast.core import limits
from holdfast.core.errors import InvalidError, MethodError, NotFoundError
from holdfast.wire import DEFAULT_BUCKET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.http.meters import Meter

ADMIN, BLOB, METADATA, LISTING, DELETED, UNDELETE, VERSIONS, RESTORE = (
    "admin",
    "blob",
    "metadata",
    "listing",
    "deleted",
    "undelete",
    "versions",
    "restore",
)
HASH, HASHES, MISSING, EVENTS, LIMITS, PRESIGN, SERVICE = (
    "hash",
    "hashes",
    "missing",
    "events",
    "limits",
    "presign",
    "service",
)
METHODS = {
    ADMIN: ("GET", "HEAD", "PUT", "POST", "DELETE"),
    BLOB: ("GET", "HEAD", "PUT", "POST", "DELETE"),
    METADATA: ("GET", "HEAD"),
    LISTING: ("GET", "HEAD", "POST"),
    DELETED: ("GET", "HEAD"),
    UNDELETE: ("POST",),
    VERSIONS: ("GET", "HEAD"),
    RESTORE: ("POST",),
    HASH: ("GET", "HEAD", "PUT", "DELETE"),
    HASHES: ("GET", "HEAD", "POST"),
    MISSING: ("POST",),
    EVENTS: ("GET",),
    LIMITS: ("GET", "HEAD"),
    PRESIGN: ("POST",),
    SERVICE: ("GET", "HEAD"),
}
PARAMETERS = {
    ADMIN: ("cursor",),
    BLOB: ("disposition", "version"),
    METADATA: ("version",),
    LISTING: ("prefix", "delimiter", "cursor", "limit"),
    DELETED: ("prefix", "cursor", "limit"),
    UNDELETE: ("digest",),
    VERSIONS: ("cursor", "limit"),
    RESTORE: ("version",),
    HASH: ("disposition",),
    HASHES: ("cursor", "limit"),
    MISSING: (),
    EVENTS: ("from", "bucket", "prefix", "wait_s"),
    LIMITS: ("bucket",),
    PRESIGN: (),
    SERVICE: (),
}
SERVICES = {b"/healthz", b"/readyz", b"/metrics", b"/stats", b"/openapi.json", b"/"}
GUARDED = frozenset(("/metrics", "/stats"))
"""Services for who runs the store."""
EVENTS_PATH = b"/events"
PRESIGN_PATH = b"/presign"
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
METADATA_END = b"/metadata"
ADMIN_START = b"/admin/"
COLD_STARTS = (ADMIN_START, EVENTS_PATH, PRESIGN_PATH)
"""What the paths begin with that the app answers."""
MANY = frozenset((LISTING, HASHES, MISSING))
"""Routes whose POST is about many things."""
REVIVALS = frozenset((UNDELETE, RESTORE))
"""Routes that bring something back, by a POST without a body."""
OF_BEFORE = frozenset((VERSIONS, *REVIVALS))
DELETED_START = b"/deleted/"
KEPT_STARTS = {b"/undelete/": UNDELETE, b"/versions/": VERSIONS, b"/restore/": RESTORE}
"""What the paths begin with whose rest is a bucket and a key, and nothing else."""
REVIVAL_STARTS = tuple(start for start, found in KEPT_STARTS.items() if found in REVIVALS)
DIGITS_MAX = 19


class Target(NamedTuple):
    """What a request is about."""

    route: str
    bucket: str = ""
    name: str = ""
    """A key, a hash as it was spelled, or the path of a service."""
    owner: str | None = None
    """Whose blobs a hash is looked for in; None: everybody's."""
    is_steady: bool = True
    """Whoever asks may do so until a key or a policy changes."""
    meters: tuple[Meter, ...] = ()
    """What is counted of whoever asks."""
    version: int | None = None
    """Which version of a name; None: what it is now."""
    inline: bool = False
    """A browser may show the blob."""

    def of(
        self, bucket: str, owner: str | None, meters: tuple[Meter, ...], *, is_steady: bool
    ) -> Target:
        """The same, as the target of somebody who may come."""
        found = self.route, bucket, self.name, owner, is_steady, meters
        return Target(*found, self.version, self.inline)

    @property
    def is_of_now(self) -> bool:
        """Whether it is about what names point to now, of which alone some may be public."""
        return self.version is None and self.route not in OF_BEFORE


FIXED = {
    b"/blob": Target(LISTING, DEFAULT_BUCKET),
    b"/blobs": Target(HASHES),
    b"/blobs/missing": Target(MISSING),
    EVENTS_PATH: Target(EVENTS),
    b"/limits": Target(LIMITS),
    PRESIGN_PATH: Target(PRESIGN),
    **{path: Target(SERVICE, name=path.decode()) for path in SERVICES},
}


def resolve(method: str, path: bytes) -> Target:
    """Find the target of a request.

    Raises:
        NotFoundError: no such route.
        MethodError: the route does not know this method.
        InvalidError: bad percent-encoding, or not UTF-8.
    """
    target = _find(path)
    if method not in METHODS[target.route]:
        raise MethodError(", ".join(METHODS[target.route]))
    return target


def is_action(path: bytes) -> bool:
    """Whether a POST to this path brings no blob: it is about many things, or brings one back."""
    if path.startswith(REVIVAL_STARTS):
        return True
    fixed = FIXED.get(path)
    if fixed is not None:
        return fixed.route in MANY
    return path.startswith(b"/b/") and path.find(b"/", 3) < 0


def parameters(target: Target, query: bytes) -> dict[str, str]:
    """Read the query.

    Raises:
        InvalidError: an unknown or repeated parameter, or bad percent-encoding.
    """
    found: dict[str, str] = {}
    for pair in query.split(b"&") if query else ():
        raw_name, _, raw_value = pair.partition(b"=")
        name = decode(raw_name, "query parameter")
        if name not in PARAMETERS[target.route] or name in found:
            allowed = ", ".join(PARAMETERS[target.route]) or "none here"
            raise InvalidError("query parameter", name[:100], f"each once of: {allowed}")
        found[name] = decode(raw_value.replace(b"+", b" "), name)
    return found


def number(asked: Mapping[str, str], name: str, allowed: str) -> int | None:
    """Read a whole number of the query; None when it is not there.

    Raises:
        InvalidError: it is none.
    """
    text = asked.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise InvalidError(name, text[:100], allowed)
    return int(text)


def limit(asked: Mapping[str, str]) -> int:
    """How much one page shall hold, as the query says."""
    found = number(asked, "limit", f"1 to {limits.LIST_LIMIT_MAX}")
    return limits.LIST_LIMIT_DEFAULT if found is None else found


def detailed(target: Target, query: bytes) -> Target:
    """Add what the query of a download says.

    Raises:
        InvalidError: as `parameters` does, or what it says cannot be.
    """
    if not query:
        return target
    asked = parameters(target, query)
    shown = asked.get("disposition", "attachment")
    if shown not in {"attachment", "inline"}:
        raise InvalidError("disposition", shown[:100], "attachment or inline")
    version = number(asked, "version", "the number of a version")
    return target._replace(inline=shown == "inline", version=version)


def decode(raw: bytes, what: str) -> str:
    """Undo percent-encoding.

    Raises:
        InvalidError: a percent sign without two hex digits, or not UTF-8.
    """
    if b"%" in raw:
        if BAD_ESCAPE.search(raw) is not None:
            raise InvalidError(what, raw[:100].decode("latin-1"), "% and two hex digits")
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidError(what, raw[:100].decode("latin-1"), "UTF-8, percent-encoded") from None


def _find(path: bytes) -> Target:
    if path.startswith(b"/blob/"):
        return _named(DEFAULT_BUCKET, path[6:])
    if path.startswith(b"/b/"):
        bucket, slash, rest = path[3:].partition(b"/")
        name = decode(bucket, "bucket")
        return _named(name, rest) if slash else Target(LISTING, name)
    if path.startswith(b"/blobs/") and path not in FIXED:
        return Target(HASH, name=decode(path[7:], "hash"))
    if path in FIXED:
        return FIXED[path]
    if path.startswith(ADMIN_START):
        return Target(ADMIN, name=path[len(ADMIN_START) :].decode("latin-1"))
    return _kept(path)


def _kept(path: bytes) -> Target:
    """The target of a path to what is kept of names that are not there any more."""
    if path.startswith(DELETED_START):
        bucket = path[len(DELETED_START) :]
        if b"/" not in bucket:
            return Target(DELETED, decode(bucket, "bucket"))
    for start, found in KEPT_STARTS.items():
        bucket, slash, key = path[len(start) :].partition(b"/")
        if path.startswith(start) and slash:
            return Target(found, decode(bucket, "bucket"), decode(key, "key"))
    raise NotFoundError("no such route", path=path[:100].decode("latin-1"))


def _named(bucket: str, rest: bytes) -> Target:
    if rest.endswith(METADATA_END) and len(rest) > len(METADATA_END):
        return Target(METADATA, bucket, decode(rest[: -len(METADATA_END)], "key"))
    return Target(BLOB, bucket, decode(rest, "key"))
