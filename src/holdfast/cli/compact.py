"""`holdfast compact`."""

import click
import msgspec

from holdfast.cli.output import bar, emit, examples, human_size, opening_bar
from holdfast.cli.store import existing
from holdfast.config.target import bounds_of
from holdfast.depot.local import open_depot


@click.command(
    short_help="Give the disk back what is dead in the log of a folder.",
    epilog=examples(
        "holdfast compact ./data                    free all that is worth it",
        "holdfast compact ./data --json             for scripts",
    ),
)
@click.argument("store", metavar="DIR_OR_URL")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def compact(store: str, as_json: bool) -> None:  # noqa: FBT001
    """Move what is live out of the log's segments in a folder and remove the rest.

    The folder must not be in use: a server does the same in the background. It may be interrupted
    at any moment and loses nothing.
    """
    located = existing(store)
    moved_bytes = 0
    with opening_bar() as watch:
        depot = open_depot(located.folder, bounds_of(located), watch=watch)
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
