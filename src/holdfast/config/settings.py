"""Every setting of a server: its type, default, what it allows and what it is for.

One line here makes the key of the TOML file, the environment variable HOLDFAST_<NAME>, the row of
`holdfast config show` and the row that tests look for in docs/config.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from holdfast.config.disks import Disks
from holdfast.config.kinds import (
    Age,
    Choice,
    Frequency,
    Kind,
    Location,
    Networks,
    Origins,
    Processes,
    Seconds,
    Size,
    Switch,
    Text,
    Whole,
)
from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.marker import LOG, SQLITE
from holdfast.core.urls import shown_url

T = TypeVar("T")

HOST = Text(
    "an address such as 127.0.0.1, ::1 or localhost", re.compile(r"[A-Za-z0-9.:%_-]{1,253}")
)
DAY_S = 86_400
REQUESTS_S = Frequency(limits.RATE_S_MIN, limits.RATE_S_MAX)
BYTES_S = Size(limits.RATE_S_MAX, "no limit")
KEYS = "keys"
LEVEL = Whole(1, 19)
LARGE = Text(
    "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder, or nothing",
    re.compile(r"((s3|gs|az)://[^/?#@\s]+(/[^?#@\s]*)?|file:///[^?#\n]+)?"),
)
ENCRYPT = Text(
    "env:NAME or file:PATH, where the master key is, or nothing",
    re.compile(r"(env:(?![0-9A-Fa-f]{64}$)[A-Za-z_][A-Za-z0-9_]*|file:[^\n]+)?"),
)
PLACE = Text("a folder, or the URL of an engine in a folder, or nothing", re.compile(r"[^\n\0]*"))
URLS = {"data", "move_to", "large", "cold"}
"""Settings in whose values somebody may have written a secret."""
AUTO = "auto"
CHECKSUMS, DIGEST = "checksums", "digest"
COLD_ALLOWED = "without `large`: it is for blobs that lie in a folder"
LOG_ALLOWED = "for the engine log: shards keep blobs of any size"
SPREAD_ALLOWED = "without `large`: large blobs go to disks or to an object store"
CACHE_DIR_ALLOWED = "only with `cache`, which says how much may lie there"


def setting(default: T, kind: Kind, about: str) -> T:
    """Describe one setting; `about` is its row in the docs."""
    return field(default=default, metadata={"rule": Rule(kind, about)})


class Rule(NamedTuple):
    """What a setting allows and what it is for."""

    kind: Kind
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A server's settings, checked; times are seconds."""

    data: Path = setting(  # noqa: RUF009 - a field, shared by no two instances
        Path("data"),
        Location("a folder"),
        "Folder that holds the store, or a URL that also says how.",
    )
    engine: str = setting(
        AUTO,
        Choice((AUTO, LOG, SQLITE)),
        "What keeps a new store: one log, or shards; auto: sqlite if `shards` is set, else log.",
    )
    shards: int = setting(
        0,
        Whole(0, limits.SHARDS_MAX),
        "Files of SQLite that a new store has; 0: 4 with `engine`, and what a store has already.",
    )
    shard_hash: str = setting(
        AUTO,
        Choice((AUTO, "fnv1a", "xxh3", "rendezvous")),
        "Which file a key is in; auto: fnv1a for a new store.",
    )
    batch_size: int = setting(
        1, Whole(1, limits.BATCH_JOBS_MAX), "Writes that shards commit together at most."
    )
    batch_timeout_ms: int = setting(
        0,
        Whole(0, limits.BATCH_WAIT_MS_MAX),
        "Milliseconds for which the first of them waits for others, if there may be any.",
    )
    move_to: str = setting(
        "", PLACE, "Store that all is moved to while it is served: a folder, or a URL."
    )
    move_bytes_s_max: int = setting(
        limits.MOVE_BYTES_S_MAX, Size(1 << 50, "no limit"), "Bytes a second of that at most."
    )
    move_verify: bool = setting(
        False,  # noqa: FBT003 - the default of the setting
        Switch(),
        "Read all of the new store before the old one is let go.",
    )
    host: str = setting("127.0.0.1", HOST, "Address to listen on.")
    port: int = setting(3000, Whole(0, 65_535), "Port to listen on; 0 takes a free one.")
    workers: int = setting(1, Processes(limits.WORKERS_MAX), "Processes that serve.")
    auth: str = setting(
        "none",
        Choice(("none", KEYS)),
        "How callers prove who they are.",
    )
    insecure: bool = setting(
        False,  # noqa: FBT003 - the default of the setting
        Switch(),
        "Serve other machines without authentication or encryption all the same.",
    )
    max_body_bytes: int = setting(
        limits.BODY_BYTES_MAX, Size(1 << 50, "no limit"), "Largest upload of the keyed face."
    )
    content_max_body_bytes: int = setting(
        limits.CONTENT_BODY_BYTES_MAX,
        Size(1 << 50, "no limit"),
        "Largest upload of the content face.",
    )
    small_blob_bytes_max: int = setting(
        limits.SMALL_BLOB_BYTES_MAX,
        Size(limits.BATCH_BYTES_MAX, "every blob is a file"),
        "Blobs up to this size live in the log, larger ones in files of their own.",
    )
    async_write: bool = setting(
        False,  # noqa: FBT003 - the default of the setting
        Switch(),
        "Answer 202 to uploads and deletes before they are durable: a crash loses them.",
    )
    async_writes_max: int = setting(
        limits.QUEUED_WRITES_MAX,
        Whole(1, 1_000_000),
        "Writes that may wait so; more are answered 503.",
    )
    compress: str = setting(
        "none", Choice(("none", "zstd")), "Compress what is stored and gets smaller by that."
    )
    compress_level: int = setting(
        limits.COMPRESS_LEVEL, LEVEL, "How hard: higher is smaller and slower."
    )
    dictionary: Path | None = setting(  # noqa: RUF009
        None,
        Location("a file of `holdfast dictionary train`"),
        "Dictionary by which small blobs are compressed, which the folder keeps.",
    )
    encrypt: str = setting("", ENCRYPT, "Encrypt what is stored; for a store that is empty.")
    large: str = setting("", LARGE, "Object store for large blobs, instead of files of their own.")
    cold: str = setting("", LARGE, "Object store that blobs are moved to once they are old.")
    cold_after: float = setting(
        limits.COLD_AFTER_S, Age(limits.COLD_AFTER_S_MAX), "How old they are then."
    )
    spread: tuple[str, ...] = setting(
        (), Disks(), "Disks for large blobs, each with how much of all it takes."
    )
    verify: str = setting(
        CHECKSUMS,
        Choice((CHECKSUMS, DIGEST)),
        "What is compared before a byte goes out: checksums of its part, or SHA-256 of the blob.",
    )
    cache: int = setting(
        0,
        Size(1 << 50, "none"),
        "Keep so much of the large blobs that are read nearer: in memory, or in `cache_dir`.",
    )
    cache_dir: Path | None = setting(  # noqa: RUF009
        None, Location("a folder"), "Folder on a faster disk for that, of this store alone."
    )
    output_compression: bool = setting(
        False,  # noqa: FBT003 - the default of the setting
        Switch(),
        "Compress small texts on their way to who takes zstd or gzip, if they are not stored so.",
    )
    head_wait_s: float = setting(
        limits.HEAD_WAIT_S, Seconds(0.1, DAY_S), "Longest wait for the whole head of a request."
    )
    body_wait_s: float = setting(
        limits.BODY_WAIT_S, Seconds(0.1, DAY_S), "Longest wait for the next bytes of a body."
    )
    idle_wait_s: float = setting(
        limits.IDLE_WAIT_S, Seconds(0.1, DAY_S), "Longest time that an idle connection stays open."
    )
    stop_wait_s: float = setting(
        limits.STOP_WAIT_S, Seconds(0, DAY_S), "Longest time that a stop waits for open requests."
    )
    max_connections: int = setting(
        limits.CONNECTIONS_MAX, Whole(1, 1_000_000), "Open connections; more are answered 503."
    )
    cors_origins: tuple[str, ...] = setting(
        (), Origins(), "Web origins whose pages may read answers; none switches CORS off."
    )
    tls_certificate: Path | None = setting(  # noqa: RUF009
        None, Location("a PEM file"), "Certificate chain; with `tls_key` it switches TLS on."
    )
    tls_key: Path | None = setting(  # noqa: RUF009
        None, Location("a PEM file"), "Private key of the certificate."
    )
    networks: tuple[str, ...] = setting(
        (), Networks(), "Networks whose addresses may use the server; none: all may."
    )
    trusted_proxies: tuple[str, ...] = setting(
        (), Networks(), "Networks of proxies that are believed where a request comes from."
    )
    proxy_header: str = setting(
        "x-forwarded-for",
        Choice(("x-forwarded-for", "forwarded")),
        "Header in which they say it; the other one is never read.",
    )
    address_requests_s: float = setting(
        0.0, REQUESTS_S, "Requests a second from one address; of IPv6 from one /64."
    )
    address_bytes_s: int = setting(0, BYTES_S, "Bytes of bodies a second, to and from it.")
    key_requests_s: float = setting(
        0.0, REQUESTS_S, "Requests a second with one API key, unless the key says."
    )
    key_bytes_s: int = setting(0, BYTES_S, "Bytes of bodies a second with it, unless it says.")
    owner_requests_s: float = setting(
        0.0, REQUESTS_S, "Requests a second with all keys of one owner, unless the owner says."
    )
    owner_bytes_s: int = setting(0, BYTES_S, "Bytes of bodies a second with them, unless it says.")
    rate_burst_s: float = setting(
        limits.RATE_BURST_S,
        Seconds(limits.RATE_S_MIN, limits.RATE_BURST_S_MAX),
        "Seconds of these rates that may come at once.",
    )
    auth_failures_minute: int = setting(
        limits.AUTH_FAILURES_MINUTE,
        Whole(0, 1_000_000_000),
        "Wrong API keys a minute from one address, before none is looked at; 0: no limit.",
    )
    undelete_s: int = setting(
        limits.UNDELETE_S,
        Whole(0, limits.EXPIRE_S_MAX),
        "Seconds in which a deleted name can be restored, where its bucket does not say.",
    )
    scrub_days: int = setting(
        limits.SCRUB_DAYS,
        Whole(0, 3650),
        "Days in which all that is stored is read once and compared with its checksums; 0: never.",
    )
    scrub_bytes_s_max: int = setting(
        limits.SCRUB_BYTES_S_MAX,
        Size(1 << 50, "no limit"),
        "Bytes a second that are read for it at most.",
    )
    sweep_every_s: float = setting(
        limits.SWEEP_EVERY_S,
        Seconds(0, 30 * DAY_S),
        "Seconds from one removal of blobs without a name to the next; 0: never.",
    )
    sweep_grace_s: float = setting(
        limits.SWEEP_GRACE_S,
        Seconds(1, 3650 * DAY_S),
        "Seconds for which a blob without a name is kept all the same.",
    )
    audit_days: int = setting(
        limits.AUDIT_DAYS,
        Whole(1, 3650),
        "Days for which it is kept what admins did, and were refused.",
    )
    webhook_networks: tuple[str, ...] = setting(
        (),
        Networks(),
        "Networks that webhooks may be sent to besides the public internet.",
    )
    webhook_wait_s: float = setting(
        limits.WEBHOOK_WAIT_S, Seconds(0.1, 300), "Longest wait for the answer of a receiver."
    )
    webhook_give_up_s: float = setting(
        limits.WEBHOOK_GIVE_UP_S,
        Seconds(0, 30 * DAY_S),
        "Seconds for which a message waits while its receiver fails, before it is given up.",
    )
    log_level: str = setting(
        "info", Choice(("debug", "info", "warning", "error")), "Least important events to log."
    )
    log_format: str = setting("text", Choice(("text", "json")), "Log for people or for machines.")
    hot_path: bool = setting(
        True,  # noqa: FBT003 - the default of the setting
        Switch(),
        "Answer blob routes in the lean protocol; off sends all through the ASGI app.",
    )

    @property
    def asks_keys(self) -> bool:
        """Whether callers show API keys."""
        return self.auth == KEYS


RULES: Mapping[str, Rule] = MappingProxyType(
    {one.name: one.metadata["rule"] for one in fields(Settings)}
)


def read_value(name: str, raw: object, what: str) -> Any:  # noqa: ANN401 - what the kind reads
    """Check the value of a setting; errors are about `what`, and show no key.

    Raises:
        InvalidError: it is not allowed.
    """
    kind = RULES[name].kind
    try:
        return kind.read(raw)
    except ValueError:
        raise InvalidError(what, shown(name, raw), kind.allowed) from None


def read_text(name: str, text: str, what: str) -> Any:  # noqa: ANN401 - what the kind reads
    """Check the text of a setting, as `read_value` does its value."""
    return read_value(name, RULES[name].kind.from_text(text), what)


def shown(name: str, raw: object) -> str | int | float:
    """A value as an error may show it."""
    if name == "encrypt":
        return "neither"  # it may be the key itself
    if name in URLS:
        return shown_url(str(raw))
    return raw if isinstance(raw, str | int | float) else str(raw)


ALIASES: Mapping[str, str] = MappingProxyType(
    {"data_dir": "data", "num_shards": "shards", "storage_compression": "compress"}
)
"""Keys that Blobnom has for the same."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
