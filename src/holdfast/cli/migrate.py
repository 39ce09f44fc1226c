"""`holdfast migrate`."""

from __future__ import annotations

from contextlib import ExitStack

import click
import msgspec

from holdfast.cli.amounts import NONE, Amount
from holdfast.cli.output import bar, emit, examples, human_size, opening_bar
from holdfast.cli.store import folder_in
from holdfast.config import open_bucket
from holdfast.core.errors import NotFoundError, UnsupportedError
from holdfast.depot.depot import Depot
from holdfast.services.migration import Manner, Migration, Moved


@click.command(
    short_help="Move all that one store has into another.",
    epilog=examples(
        "holdfast migrate ./data 'segments:///srv/blobs?compress=zstd' --verify",
        "holdfast migrate ./data ./copy --dry-run     say how much there is to move",
        "holdfast migrate ./data ./copy --rate 20MiB  read no faster than that",
    ),
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--verify", is_flag=True, help="Read all of TO in the end, and compare.")
@click.option("--dry-run", is_flag=True, help="Only say how much there is to move.")
@click.option(
    "--rate", type=Amount(1), metavar="SIZE", help="Bytes of blobs a second at most. [no limit]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def migrate(ctx: click.Context, /, **_: object) -> None:
    """Copy names, versions, deleted names, policies, owners, keys, webhooks and blobs to TO.

    FROM and TO are folders, or URLs of engines in folders; neither may be in use. FROM stays as it
    is. What TO has already must be the same, so a run that was broken off is begun again in the
    same words. Readers of events go on in TO if they have read all that FROM has.
    """
    wanted = ctx.params
    rate = wanted["rate"]
    manner = Manner(wanted["dry_run"], wanted["verify"], 0 if rate in (None, NONE) else rate)
    with ExitStack() as stack:
        source, target = (_opened(stack, wanted[name], name) for name in ("source", "target"))
        migration = Migration(source, target, manner)
        with bar("moving", None) as move:
            done_bytes = 0
            for size_bytes in migration.run():
                done_bytes += size_bytes
                move(done_bytes)
    if wanted["as_json"]:
        emit(msgspec.json.encode(migration.moved))
    else:
        click.echo(_said(migration.moved, manner))


def _opened(stack: ExitStack, store: str, name: str) -> Depot:
    folder = folder_in(store)
    if folder is None:
        raise UnsupportedError(f"{store} is a server: migrate its folder, while it is stopped")
    if name == "source" and not folder.is_dir():
        raise NotFoundError(f"there is no store at {store}")
    with opening_bar() as watch:
        depot = stack.enter_context(open_bucket(store, watch=watch))
    assert isinstance(depot, Depot)
    return depot


def _said(moved: Moved, manner: Manner) -> str:
    done = "would be moved" if manner.dry_run else "moved"
    text = f"{moved.rows} rows and {moved.blobs} blobs ({human_size(moved.blob_bytes)}) {done}"
    there = f"{text}, {moved.rows_there} rows and {moved.blobs_there} blobs were there"
    return f"{there}, {moved.verified} blobs verified" if manner.verify else there
