"""`holdfast reshard`."""

from urllib.parse import urlsplit

import click
import msgspec

from holdfast.cli.output import emit, examples, human_size
from holdfast.cli.pace import phase_bar
from holdfast.cli.store import existing
from holdfast.config.sharding import Sharding
from holdfast.config.stack import Located, check_writable, locate, options_of
from holdfast.core import limits
from holdfast.core.errors import FullError, InvalidError, UnsupportedError
from holdfast.core.marker import SQLITE, recorded_engine
from holdfast.core.urls import shown_url
from holdfast.services.reshard import Reshard
from holdfast.shards.folder import Shape
from holdfast.shards.routing import HASHES

SHARDS, HASH = 4, "fnv1a"


@click.command(
    short_help="Copy a store in SQLite into another number of files.",
    epilog=examples(
        "holdfast reshard ./data ./data8 --shards 8            then serve ./data8",
        "holdfast reshard ./data ./data8 --shards 8 --verify   and compare every byte",
        "holdfast reshard ./data 'sqlite:///srv/blobs?shards=16&hash=rendezvous'",
    ),
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "--shards",
    type=click.IntRange(1, limits.SHARDS_MAX),
    metavar="N",
    help=f"Files that NEW has. [{SHARDS}]",
)
@click.option(
    "--hash",
    "hash_name",
    type=click.Choice(list(HASHES)),
    help=f"Which file a key is in. [{HASH}]",
)
@click.option("--verify", is_flag=True, help="Read both stores again and compare every byte.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def reshard(ctx: click.Context, /, **_: object) -> None:
    """Copy the store in the folder OLD to the folder NEW, which has another number of files.

    NEW may be a URL that says how many. Names, versions, revisions and events are the same there.
    Neither folder may be in use. OLD is left as it is; a copy that was interrupted goes on when the
    command is run again, and nobody can open it before it is finished.
    """
    options = ctx.params
    old, new = existing(options["old"]).folder, _located(options["new"])
    if (engine := recorded_engine(old)) != SQLITE:
        raise UnsupportedError(
            f"{old} holds a store of the engine {engine}, which has no shards: `holdfast migrate"
            f" {old} '{SQLITE}:///folder?shards=N'` makes a copy that has"
        )
    check_writable(new.folder, "NEW")
    shape = _shape(options["shards"], options["hash_name"], new.sharding)
    work = Reshard(old, new.folder, shape, verify=options["verify"])
    with phase_bar() as show:
        try:
            for phase in work.run():
                show(phase)
        except FullError as error:
            raise FullError(f"{new.folder}: {error.message}") from error
    if options["as_json"]:
        emit(msgspec.json.encode(work.copied))
        return
    copied = work.copied
    size = human_size(copied.blob_bytes)
    verified = ", verified" if copied.verified else ""
    click.echo(
        f"{copied.keys} keys, {copied.blobs} blobs ({size}) in {copied.shards} files{verified}"
    )


def _located(new: str) -> Located:
    """Find the new folder.

    Raises:
        InvalidError: its URL is of another engine, or says more than how many files there are.
    """
    others = set(options_of(urlsplit(new).query if "://" in new else "")) - {"shards", "hash"}
    located = locate(new)
    if others or located.sharding.engine not in {"", SQLITE}:
        allowed = f"a folder, or {SQLITE}:///folder?shards=N&hash=NAME; all else is as in OLD"
        raise InvalidError("NEW", ", ".join(sorted(others)) or shown_url(new), allowed)
    return located


def _shape(shards: int | None, hash_name: str | None, said: Sharding) -> Shape:
    """What the options say, or the URL of the new store.

    Raises:
        InvalidError: both do, and not the same.
    """
    for name, one, other in (("shards", shards, said.shards), ("hash", hash_name, said.shard_hash)):
        if one and other and one != other:
            raise InvalidError(f"--{name}", one, f"the URL says {other}")
    return Shape(shards or said.shards or SHARDS, hash_name or said.shard_hash or HASH)
