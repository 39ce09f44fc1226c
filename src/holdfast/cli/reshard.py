"""`holdfast reshard`."""

from pathlib import Path

import click
import msgspec

from holdfast.cli.output import bar, emit, examples, human_size
from holdfast.core import limits
from holdfast.core.errors import NotFoundError, UnsupportedError
from holdfast.core.marker import recorded_engine
from holdfast.depot.engine import SQLITE
from holdfast.services.reshard import Reshard
from holdfast.shards.folder import Shape
from holdfast.shards.routing import HASHES


@click.command(
    short_help="Copy a store in SQLite into another number of files.",
    epilog=examples(
        "holdfast reshard ./data ./data8 --shards 8            then serve ./data8",
        "holdfast reshard ./data ./data8 --shards 8 --verify   and compare every byte",
        "holdfast reshard ./data ./new --hash rendezvous",
    ),
)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--shards",
    type=click.IntRange(1, limits.SHARDS_MAX),
    default=4,
    show_default=True,
    help="Files that NEW has.",
)
@click.option(
    "--hash",
    "hash_name",
    type=click.Choice(list(HASHES)),
    default="fnv1a",
    show_default=True,
    help="Which file a key is in.",
)
@click.option("--verify", is_flag=True, help="Read both stores again and compare every byte.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def reshard(ctx: click.Context, /, **_: object) -> None:
    """Copy the store in the folder OLD to the folder NEW, which has another number of files.

    Names, versions, revisions and events are the same there. Neither folder may be in use. OLD is
    left as it is; a copy that was interrupted goes on when the command is run again, and nobody can
    open it before it is finished.
    """
    options = ctx.params
    old, new = options["old"], options["new"]
    engine = recorded_engine(old)
    if not engine:
        raise NotFoundError(f"there is no store at {old}")
    if engine != SQLITE:
        raise UnsupportedError(f"{old} holds a store of the engine {engine}, which has no shards")
    shape = Shape(options["shards"], options["hash_name"])
    work = Reshard(old, new, shape, verify=options["verify"])
    with bar("copying", None) as move:
        for done in work.run():
            move(done)
    if options["as_json"]:
        emit(msgspec.json.encode(work.copied))
        return
    copied = work.copied
    size = human_size(copied.blob_bytes)
    verified = ", verified" if copied.verified else ""
    click.echo(
        f"{copied.keys} keys, {copied.blobs} blobs ({size}) in {copied.shards} files{verified}"
    )
