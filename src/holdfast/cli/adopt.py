"""`holdfast import`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from holdfast.cli.adopted import REFUSED, Adopted, document, print_adopted
from holdfast.cli.exits import exit_code
from holdfast.cli.intake import IMPORTING, take_rows
from holdfast.cli.output import emit, examples
from holdfast.cli.pace import phase_bar
from holdfast.cli.store import Target, folder_in, json_option, opened, store_options
from holdfast.core.bucket import CREATE_ONLY
from holdfast.core.errors import CorruptError, InvalidError, NotFoundError
from holdfast.core.marker import check_apart, recorded_engine
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.progress import Phase
from holdfast.stores import blobnom
from holdfast.stores.bloblog import Damage, Ref, Shard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.bucket import Bucket

Steps = Callable[["Bucket", Adopted], "Iterator[Phase]"]
"""Stores one thing after the other, and says behind each how far it is."""


@click.command(
    "import",
    short_help="Take over the blobs of another store's folder.",
    epilog=examples(
        "holdfast import ferricstore /var/lib/ferricstore -s ./data    into a folder",
        "holdfast import ferricstore /var/lib/ferricstore              into the server",
        "holdfast import blobnom ./data -s sqlite://$PWD/new?shards=8  into other shards",
    ),
)
@click.argument("kind", metavar="KIND", type=click.Choice(["ferricstore", "blobnom"]))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-n", "--create-only", is_flag=True, help="Keep what has a key already: replace nothing."
)
@store_options
@json_option
@click.pass_context
def adopt(ctx: click.Context, /, **_: object) -> None:
    """Store what is in DIR, the data folder of another store.

    KIND is ferricstore: every sound blob by its digest, which its refs hold, so that `holdfast get
    sha256:HEX` finds it. Or blobnom: every key in the bucket, those of its namespaces in buckets of
    these names. DIR is only read, and must not be in use. An import may be repeated: a key gets the
    value that it has in DIR again, unless --create-only. Exit 5 if some of it is damaged; the rest
    is stored all the same.
    """
    options = ctx.params
    source = options["folder"]
    when = CREATE_ONLY if options["create_only"] else NO_CONDITIONS
    is_blobnom = options["kind"] == "blobnom"
    steps = _from_blobnom(source, when) if is_blobnom else _from_ferricstore(source)
    adopted = Adopted()
    target = Target(options["store"], options["bucket"])
    if (folder := folder_in(target.store)) is not None:
        check_apart(source, folder, "store")
    with opened(target, writing=True) as bucket, phase_bar() as show:
        for phase in steps(bucket, adopted):
            show(phase)
    if options["as_json"]:
        emit(msgspec.json.encode(document(adopted)))
    else:
        print_adopted(adopted)
    if adopted.damaged:
        ctx.exit(exit_code(CorruptError("damaged")))


def _from_ferricstore(folder: Path) -> Steps:
    shards = sorted((folder / "blob").glob("shard_*"))
    if not shards:
        raise NotFoundError(f"there is no blob/shard_* in {folder}")
    return partial(_take_records, list(map(Shard, shards)))


def _from_blobnom(folder: Path, when: Conditions) -> Steps:
    files = blobnom.shards(folder)
    if not files:
        raise NotFoundError(f"there is no shard_*.db in {folder}")
    if recorded_engine(folder):
        raise InvalidError("DIR", str(folder), "a folder of Blobnom's; this is one of holdfast's")
    return partial(take_rows, files, when)


def _take_records(shards: Sequence[Shard], bucket: Bucket, adopted: Adopted) -> Iterator[Phase]:
    for shard in shards:
        for found in shard.scan():
            _take(bucket, adopted, shard, found)
            yield Phase(IMPORTING, adopted.size_bytes)


def _take(bucket: Bucket, adopted: Adopted, shard: Shard, found: Ref | Damage) -> None:
    if isinstance(found, Damage):
        adopted.tell(found)
        return
    try:
        bucket.content.put(shard.chunks(found), digest=found.digest)
    except REFUSED as error:
        adopted.refuse(str(found.digest), error.message)
    else:
        adopted.add(found.size_bytes)
