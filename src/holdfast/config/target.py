"""The composition root: from the name of a store to the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.config.objects import connect
from holdfast.config.stack import check_writable, locate, read_dictionary, read_master
from holdfast.core.errors import UnsupportedError
from holdfast.depot.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.config.stack import Located, Wanted
    from holdfast.core.bucket import Bucket
    from holdfast.core.progress import Progress
    from holdfast.depot.engine import Limits

KEY_VARIABLE = "HOLDFAST_KEY"
SERVERS = ("http://", "https://")


def open_bucket(target: str | Path, *, watch: Callable[[Progress], None] | None = None) -> Bucket:
    """Open the store that `target` names: a folder in this process, or a server behind a URL.

    A folder is made when it is missing, and is locked while it is open: one process at a time.
    After a power cut its index is made again first; who wants to `watch` is told how far that is. A
    server is shown the API key in HOLDFAST_KEY, if that is set.

    Raises:
        InvalidError: `target` has another scheme.
        UnavailableError: the folder cannot be used. A server is asked at the first verb only.
    """
    text = str(target)
    if not isinstance(target, Path) and is_server(text):
        try:
            from holdfast.client import Client, ClientOptions  # noqa: PLC0415 - httpx is an extra
        except ModuleNotFoundError as error:
            raise UnsupportedError("URLs need pip install 'holdfast[client]'") from error

        return Client(text, options=ClientOptions(key=os.environ.get(KEY_VARIABLE, "")))
    return _open_folder(locate(target), watch)


def is_server(target: str) -> bool:
    """Whether a store is behind a URL."""
    return target.lower().startswith(SERVERS)


def stack_of(wanted: Wanted, *, as_it_is: bool = False) -> Stack:
    """Read the secrets that the wanted wrappers need; `as_it_is` leaves what is new alone.

    Raises:
        InvalidError: one is not there.
    """
    master = read_master(wanted.encrypt)
    return Stack(
        wanted.compress,
        wanted.level,
        master,
        wanted.large,
        wanted.cold,
        wanted.cold_after_s,
        connect,
        read_dictionary(wanted.dictionary),
        wanted.verify,
        wanted.cache_bytes,
        wanted.cache_dir,
        wanted.disks,
        as_it_is,
    )


def bounds_of(located: Located, *, as_it_is: bool = False) -> Limits:
    """How a depot in a folder works by itself, with the engine and wrappers that are wanted.

    Of wrappers and places, `as_it_is` wants those that it has.

    Raises:
        InvalidError: a secret is not there.
    """
    from holdfast.depot.engine import Limits  # noqa: PLC0415 - a client needs no engine

    sharding = located.sharding
    return Limits(
        stack=stack_of(located.wanted, as_it_is=as_it_is),
        engine=sharding.engine,
        shards=sharding.shards,
        shard_hash=sharding.shard_hash,
        batch_size=sharding.batch_size,
        batch_wait_s=sharding.batch_wait_s,
    )


def _open_folder(located: Located, watch: Callable[[Progress], None] | None) -> Bucket:
    from holdfast.depot.local import open_depot  # noqa: PLC0415 - a client needs no engine

    check_writable(located.folder, "store")
    return open_depot(located.folder, bounds_of(located), watch=watch)
