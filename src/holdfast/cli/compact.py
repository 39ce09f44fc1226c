"""`holdfast compact`."""

from pathlib import Path

import click
import msgspec

from holdfast.cli.output import bar, emit, examples, human_size, opening_bar
from holdfast.config.stack import locate
from holdfast.config.target import bounds_of
from holdfast.core.errors import NotFoundError
from holdfast.depot.local import open_depot


@click.command(
    short_help="Give the disk back what is dead in the log of a folder.",
    epilog=examples(
        "holdfast compact ./data                    free all that is worth it",
        "holdfast compact ./data --json             for scripts",
    ),
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def compact(folder: Path, as_json: bool) -> None:  # noqa: FBT001
    """Move what is live out of the log's segments in DIR and remove the rest.

    The folder must not be in use: a server does the same in the background. It may be interrupted
    at any moment and loses nothing.
    """
    if not (folder / "HOLDFAST").exists():
        raise NotFoundError(f"there is no store at {folder}")
    moved_bytes = 0
    with opening_bar() as watch:
        depot = open_depot(folder, bounds_of(locate(folder)), watch=watch)
    with depot, bar("compacting", None) as move:
        before_bytes = depot.engine.facts()["log_bytes"]
        for freed in depot.engine.compact(0.0, with_newest=True):
            moved_bytes += freed.moved_bytes
            move(moved_bytes)
        after_bytes = depot.engine.facts()["log_bytes"]
    freed_bytes = max(0, before_bytes - after_bytes)
    if as_json:
        emit(msgspec.json.encode({"freed_bytes": freed_bytes, "log_bytes": after_bytes}))
    else:
        click.echo(f"{human_size(freed_bytes)} freed, {human_size(after_bytes)} left")
