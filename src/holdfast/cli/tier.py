"""`holdfast tier`."""

import click
import msgspec

from holdfast.cli.output import bar, emit, examples, human_size, opening_bar
from holdfast.cli.store import existing
from holdfast.config.kinds import Age
from holdfast.config.target import bounds_of
from holdfast.core.errors import UnsupportedError
from holdfast.core.limits import COLD_AFTER_S_MAX


class AgeType(click.ParamType[float]):
    """An age, as the setting `cold_after` is spelled."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        kind = Age(COLD_AFTER_S_MAX)
        try:
            found = kind.read(value)
        except ValueError:
            self.fail(f"{value!r}: {kind.allowed}", param, ctx)
        assert isinstance(found, float)
        return found


@click.command(
    short_help="Move old blobs of a folder to its cold store.",
    epilog=examples(
        "holdfast tier 'segments:///srv/blobs?cold=s3://photos/old'   give a folder a cold store",
        "holdfast tier ./data --dry-run             what would be moved",
        "holdfast tier ./data --after 1d            move what is older than a day",
    ),
)
@click.argument("store", metavar="DIR_OR_URL")
@click.option(
    "--after", type=AgeType(), metavar="AGE", help="Move what is older; 30d unless the URL says."
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def tier(store: str, after: float | None, dry_run: bool, as_json: bool) -> None:  # noqa: FBT001
    """Move the blobs of a folder that are old to its cold store, each verified there first.

    The folder must not be in use: a server does the same in the background. It may be interrupted
    at any moment and loses nothing.
    """
    from holdfast.depot.local import open_depot  # noqa: PLC0415 - an engine is much to import

    located = existing(store)
    after_s = located.wanted.cold_after_s if after is None else after
    blobs = size_bytes = damaged = 0
    with opening_bar() as watch:
        bounds = bounds_of(located, as_it_is=dry_run)
        depot = open_depot(located.folder, bounds, watch=watch)
    with depot, bar("moving", None) as move:
        moving = depot.engine.tier
        if moving is None:
            raise UnsupportedError(f"{located.folder} has no cold store: say cold=URL")
        for moved in moving.move(after_s, dry_run=dry_run):
            if not dry_run:
                moving.note(moved)
            blobs, size_bytes = blobs + moved.blobs, size_bytes + moved.size_bytes
            damaged += len(moved.damaged)
            move(size_bytes)
    if as_json:
        found = {"moved": blobs, "moved_bytes": size_bytes, "damaged": damaged}
        emit(msgspec.json.encode(found))
        return
    done = "would be moved" if dry_run else "moved"
    click.echo(f"{blobs} blobs ({human_size(size_bytes)}) {done}, {damaged} damaged")
