"""`holdfast import`."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from holdfast.cli.exits import exit_code
from holdfast.cli.output import bar, emit, examples, human_size, shown
from holdfast.cli.store import Target, json_option, opened, store_options
from holdfast.core import limits
from holdfast.core.bucket import Description
from holdfast.core.errors import CorruptError, InvalidError, NotFoundError
from holdfast.core.marker import recorded_engine
from holdfast.core.seams import SystemClock
from holdfast.stores import blobnom
from holdfast.stores.bloblog import Damage, Ref, Shard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.bucket import Bucket

SECOND_US = 1_000_000


@dataclass(slots=True)
class Adopted:
    """What an import did."""

    blobs: int = 0
    size_bytes: int = 0
    damaged: int = 0
    places: list[Damage] = field(default_factory=list)
    """As many of the damaged ones as are kept."""

    refused: list[tuple[str, str]] = field(default_factory=list)
    """What could not be stored, and why."""
    expired: int = 0
    """Rows whose time was over."""

    def refuse(self, what: str, why: str) -> None:
        """Count what cannot be stored."""
        self.damaged += 1
        if len(self.refused) < limits.FINDINGS_MAX:
            self.refused.append((what, why))

    def add(self, ref: Ref) -> None:
        """Count a blob that is stored now."""
        self.blobs += 1
        self.size_bytes += ref.size_bytes

    def tell(self, damage: Damage) -> None:
        """Count what cannot be read."""
        self.damaged += 1
        if len(self.places) < limits.FINDINGS_MAX:
            self.places.append(damage)


Step = Callable[["Bucket", Adopted], None]


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
@store_options
@json_option
@click.pass_context
def adopt(ctx: click.Context, /, **_: object) -> None:
    """Store what is in DIR, the data folder of another store.

    KIND is ferricstore: every sound blob by its digest, which its refs hold, so that `holdfast get
    sha256:HEX` finds it. Or blobnom: every key in the bucket, those of its namespaces in buckets of
    these names. DIR is only read, and must not be in use; an import may be repeated. Exit 5 if some
    of it is damaged; the rest is stored all the same.
    """
    options = ctx.params
    way = {"ferricstore": _from_ferricstore, "blobnom": _from_blobnom}[options["kind"]]
    steps = way(options["folder"])
    adopted = Adopted()
    target = Target(options["store"], options["bucket"])
    with opened(target, writing=True) as bucket, bar("importing", None) as move:
        for step in steps:
            step(bucket, adopted)
            move(adopted.size_bytes)
    if options["as_json"]:
        emit(msgspec.json.encode(_document(adopted)))
    else:
        _print(adopted)
    if adopted.damaged:
        ctx.exit(exit_code(CorruptError("damaged")))


def _from_ferricstore(folder: Path) -> Iterator[Step]:
    shards = sorted((folder / "blob").glob("shard_*"))
    if not shards:
        raise NotFoundError(f"there is no blob/shard_* in {folder}")
    return (
        partial(_take, shard=shard, found=found)
        for shard in map(Shard, shards)
        for found in shard.scan()
    )


def _from_blobnom(folder: Path) -> Iterator[Step]:
    files = blobnom.shards(folder)
    if not files:
        raise NotFoundError(f"there is no shard_*.db in {folder}")
    if recorded_engine(folder):
        raise InvalidError("DIR", str(folder), "a folder of Blobnom's; this is one of holdfast's")
    return (partial(_take_row, found=found) for file in files for found in blobnom.scan(file))


def _take_row(bucket: Bucket, adopted: Adopted, found: blobnom.Blob | blobnom.Broken) -> None:
    """Put one row under its key, unless its time is over."""
    if isinstance(found, blobnom.Broken):
        adopted.refuse(found.path.name, found.what)
        return
    expire_s = None
    if found.expires_s is not None:
        expire_s = math.ceil(found.expires_s - SystemClock().now_us() / SECOND_US)
        if expire_s <= 0:
            adopted.expired += 1
            return
    where = bucket.bucket(found.namespace) if found.namespace else bucket
    try:
        where.put(found.key, found.chunks(), about=Description(expire_s=expire_s))
    except InvalidError as error:
        adopted.refuse(found.key, error.message)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        adopted.refuse(found.key, str(error))
    else:
        adopted.blobs += 1
        adopted.size_bytes += found.size_bytes


def _take(bucket: Bucket, adopted: Adopted, shard: Shard, found: Ref | Damage) -> None:
    if isinstance(found, Damage):
        adopted.tell(found)
    else:
        bucket.content.put(shard.chunks(found), digest=found.digest)
        adopted.add(found)


def _document(adopted: Adopted) -> dict[str, object]:
    places = [
        {"file": str(path), "offset": offset, "size_bytes": size_bytes}
        for path, offset, size_bytes in adopted.places
    ]
    return {
        "blobs": adopted.blobs,
        "size_bytes": adopted.size_bytes,
        "damaged": adopted.damaged,
        "places": places,
        "refused": [{"what": what, "why": why} for what, why in adopted.refused],
        "expired": adopted.expired,
    }


def _print(adopted: Adopted) -> None:
    for path, offset, size_bytes in adopted.places:
        click.echo(f"damaged  {shown(str(path))}  {size_bytes} bytes at {offset}")
    for what, why in adopted.refused:
        click.echo(f"refused  {shown(what)}  {why}")
    size = human_size(adopted.size_bytes)
    click.echo(f"{adopted.blobs} blobs ({size}) stored, {adopted.damaged} places damaged")
