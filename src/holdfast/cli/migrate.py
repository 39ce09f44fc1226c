"""`holdfast migrate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec

from holdfast.cli.amounts import NONE, Amount
from holdfast.cli.output import emit, examples, human_size, opening_bar
from holdfast.cli.pace import phase_bar
from holdfast.cli.store import check_there
from holdfast.config.stack import Located, check_writable, locate
from holdfast.config.target import bounds_of, is_server
from holdfast.core.errors import FullError, UnsupportedError
from holdfast.core.marker import NAME, check_apart
from holdfast.core.urls import shown_url
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.services.migration import Manner, Migration, Moved

FROM_SERVER = (
    "what its store has (owners, keys, policies, versions, deleted names) no server tells: stop it "
    "and migrate its folder, or move that while it is served, with "
    "`holdfast serve --data FROM --move-to TO`"
)
TO_SERVER = (
    "nobody gives one owners, keys, versions and times: migrate into its folder while it is "
    "stopped, or store files there with `holdfast put --recursive`"
)


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
    old, new = _located(wanted["source"], FROM_SERVER), _located(wanted["target"], TO_SERVER)
    check_there(old.folder)
    check_apart(old.folder, new.folder, "TO")
    check_writable(old.folder, "FROM")  # a lock is made there
    check_writable(new.folder, "TO")
    with ExitStack() as stack:
        source = _opened(stack, old, as_it_is=True)
        target = _target(stack, new, dry_run=manner.dry_run)
        migration = Migration(source, target, manner)
        with phase_bar() as show:
            try:
                for phase in migration.run():
                    show(phase)
            except FullError as error:
                raise FullError(f"{new.folder}: {error.message}") from error
    if wanted["as_json"]:
        emit(msgspec.json.encode(migration.moved))
    else:
        click.echo(_said(migration.moved, manner))


def _located(store: str, advice: str) -> Located:
    if is_server(store):
        raise UnsupportedError(f"{shown_url(store)} is a server; {advice}")
    return locate(store)


def _target(stack: ExitStack, located: Located, *, dry_run: bool) -> Depot:
    """Open the new store; in the place of one that is not there, a dry run has an empty one."""
    if not dry_run or (located.folder / NAME).exists():
        return _opened(stack, located, as_it_is=dry_run)
    bounds_of(located)  # which says so if a secret is missing
    return stack.enter_context(open_depot(Path(stack.enter_context(TemporaryDirectory()))))


def _opened(stack: ExitStack, located: Located, *, as_it_is: bool) -> Depot:
    bounds = bounds_of(located, as_it_is=as_it_is)
    with opening_bar() as watch:
        return stack.enter_context(open_depot(located.folder, bounds, watch=watch))


def _said(moved: Moved, manner: Manner) -> str:
    done = "would be moved" if manner.dry_run else "moved"
    text = f"{moved.rows} rows and {moved.blobs} blobs ({human_size(moved.blob_bytes)}) {done}"
    there = f"{text}, {moved.rows_there} rows and {moved.blobs_there} blobs were there"
    return f"{there}, {moved.verified} blobs verified" if manner.verify else there
