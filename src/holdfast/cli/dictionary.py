"""`holdfast dictionary`: what small blobs are compressed by."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from holdfast.cli.output import emit, examples, opening_bar
from holdfast.cli.store import existing, json_option
from holdfast.config.target import bounds_of
from holdfast.core.errors import InvalidError
from holdfast.depot.local import open_depot
from holdfast.depot.wrapped import written

if TYPE_CHECKING:
    from holdfast.services.training import Trained


@click.group(short_help="Train a dictionary for small blobs.")
def dictionary() -> None:
    """Train a dictionary for small blobs, which knows beforehand what they have in common.

    Texts of a few hundred bytes, such as JSON, hardly get smaller by themselves. The store keeps
    every dictionary that it ever had, for blobs need theirs to be read.
    """


@dictionary.command(
    short_help="Train one on the small blobs of a compressed store.",
    epilog=examples(
        "holdfast dictionary train ./data                       for new blobs from now on",
        "holdfast dictionary train ./data --output json.zdict   for dictionary=FILE of another",
    ),
)
@click.argument("store", metavar="DIR_OR_URL")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it into a new file, and leave the store as it is.",
)
@json_option
def train(store: str, output: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Train a dictionary, and let the store use it for small blobs that come from now on.

    Blobs that are stored stay as they are. The folder must not be in use.
    """
    from holdfast.services.training import train_dictionary  # noqa: PLC0415 - an extra

    located = existing(store)
    folder, bounds = located.folder, bounds_of(located)
    with opening_bar() as watch:
        depot = open_depot(folder, bounds, watch=watch)
    with depot:
        if output is None and not written(folder).compress:
            allowed = "one that is compressed: say compress=zstd, or --output FILE"
            raise InvalidError("store", str(folder), allowed)
        trained = train_dictionary(depot.engine.store, bounds.stack.level)
    if output is not None:
        with output.open("xb") as file:
            file.write(trained.dictionary)
    else:
        stack = replace(bounds.stack, dictionary=trained.dictionary)
        open_depot(folder, bounds._replace(stack=stack)).close()
    _print(trained, as_json=as_json)


def _print(trained: "Trained", *, as_json: bool) -> None:
    if as_json:
        figures = trained._asdict() | {"dictionary_bytes": len(trained.dictionary)}
        del figures["dictionary"]
        emit(msgspec.json.encode(figures))
        return
    before, after = (
        f"{100 * size_bytes / trained.blob_bytes:.0f} %"
        for size_bytes in (trained.plain_bytes, trained.trained_bytes)
    )
    click.echo(f"{trained.blobs} other blobs come to {after} of their size, {before} without it")


@dictionary.command(
    "list",
    short_help="List the dictionaries of a store.",
    epilog=examples("holdfast dictionary list ./data"),
)
@click.argument("store", metavar="DIR_OR_URL")
def list_dictionaries(store: str) -> None:
    """List the names of the dictionaries in a folder; the first is for new blobs."""
    for at, name in enumerate(written(existing(store).folder).dictionaries):
        click.echo(name + ("" if at else "  for new blobs"))
