"""`holdfast import`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from holdfast.cli.exits import exit_code
from holdfast.cli.output import bar, emit, examples, human_size, shown
from holdfast.cli.store import Target, json_option, opened, store_options
from holdfast.core import limits
from holdfast.core.errors import CorruptError, NotFoundError
from holdfast.stores.bloblog import Damage, Ref, Shard

if TYPE_CHECKING:
    from holdfast.core.bucket import Bucket


@dataclass(slots=True)
class Adopted:
    """What an import did."""

    blobs: int = 0
    size_bytes: int = 0
    damaged: int = 0
    places: list[Damage] = field(default_factory=list)
    """As many of the damaged ones as are kept."""

    def add(self, ref: Ref) -> None:
        """Count a blob that is stored now."""
        self.blobs += 1
        self.size_bytes += ref.size_bytes

    def tell(self, damage: Damage) -> None:
        """Count what cannot be read."""
        self.damaged += 1
        if len(self.places) < limits.FINDINGS_MAX:
            self.places.append(damage)


@click.command(
    "import",
    short_help="Take over the blobs of another store's folder.",
    epilog=examples(
        "holdfast import ferricstore /var/lib/ferricstore -s ./data    into a folder",
        "holdfast import ferricstore /var/lib/ferricstore              into the server",
    ),
)
@click.argument("kind", metavar="KIND", type=click.Choice(["ferricstore"]))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@store_options
@json_option
@click.pass_context
def adopt(ctx: click.Context, /, **_: object) -> None:
    """Store every sound blob in DIR, the data folder of another store, by its digest.

    KIND is ferricstore. Its refs hold the digests, by which `holdfast get sha256:HEX` finds the
    blobs. DIR is only read, and must not be in use; an import may be repeated. Exit 5 if some of
    it is damaged; the rest is stored all the same.
    """
    options = ctx.params
    shards = sorted((options["folder"] / "blob").glob("shard_*"))
    if not shards:
        raise NotFoundError(f"there is no blob/shard_* in {options['folder']}")
    adopted = Adopted()
    target = Target(options["store"], options["bucket"])
    with opened(target, writing=True) as bucket, bar("importing", None) as move:
        for shard in map(Shard, shards):
            for found in shard.scan():
                _take(bucket, shard, found, adopted)
                move(adopted.size_bytes)
    if options["as_json"]:
        emit(msgspec.json.encode(_document(adopted)))
    else:
        _print(adopted)
    if adopted.damaged:
        ctx.exit(exit_code(CorruptError("damaged")))


def _take(bucket: Bucket, shard: Shard, found: Ref | Damage, adopted: Adopted) -> None:
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
    }


def _print(adopted: Adopted) -> None:
    for path, offset, size_bytes in adopted.places:
        click.echo(f"damaged  {shown(str(path))}  {size_bytes} bytes at {offset}")
    size = human_size(adopted.size_bytes)
    click.echo(f"{adopted.blobs} blobs ({size}) stored, {adopted.damaged} places damaged")
