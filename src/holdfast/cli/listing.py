"""`holdfast ls`, `holdfast stat` and `holdfast stats`."""

import json
from collections.abc import Iterator
from datetime import datetime

import click
import msgspec

from holdfast import wire
from holdfast.cli.output import emit, examples, human_size, shown, time_text
from holdfast.cli.store import (
    Name,
    Target,
    json_option,
    opened,
    parse_name,
    store_options,
    version_option,
)
from holdfast.core.bucket import Bucket
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import NotFoundError
from holdfast.core.limits import LIST_LIMIT_MAX

NOT_YET = "not yet"


@click.command(
    short_help="List keys, or digests.",
    epilog=examples(
        "holdfast ls                             all keys of the bucket",
        "holdfast ls 2026/ -l                    with size, time, type",
        "holdfast ls -d /                        like folders: all behind a slash is one line",
        "holdfast ls --json | jq .size_bytes     one JSON object a line",
        "holdfast ls --hashes                    the digests of all blobs",
    ),
)
@click.argument("prefix", default="", metavar="[PREFIX]")
@store_options
@click.option(
    "-d", "--delimiter", default="", metavar="TEXT", help="Fold keys behind the next TEXT into one."
)
@click.option("-l", "--long", "is_long", is_flag=True, help="With size, time, type and digest.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many lines.")
@click.option("--hashes", is_flag=True, help="List the digests of all blobs instead.")
@json_option
@click.pass_context
def ls(ctx: click.Context, /, **_: object) -> None:
    """List the keys that begin with PREFIX, in the order of their bytes."""
    options = ctx.params
    with opened(Target(options["store"], options["bucket"])) as bucket:
        lines = _hashes(bucket) if options["hashes"] else _lines(bucket, options)
        left = options["limit"]
        for line in lines:
            emit(line)
            left = left - 1 if left else None
            if left == 0:
                return


@click.command(
    short_help="Describe a blob.",
    epilog=examples(
        "holdfast stat 2026/holiday.jpg",
        "holdfast stat sha256:9f86d0...",
        "holdfast stat --json notes.txt | jq -r .digest",
    ),
)
@click.argument("name", type=parse_name, metavar="KEY")
@store_options
@version_option
@json_option
def stat(
    name: Name,
    store: str,
    bucket: str,
    version: int | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Describe KEY: its size, digest, type, times, version and metadata.

    Verified says when its bytes were last read from the disk and found sound.
    """
    with opened(Target(store, bucket)) as place:
        name.check_version(version)
        entry = None if name.digest is not None else place.head(name.key, version=version)
        digest = entry.digest if entry is not None else name.digest
        assert digest is not None
        verified = _verified(place, digest)
        if entry is None:
            size_bytes = place.content.stat(digest)
            _print_blob(BlobRef(digest, size_bytes), verified, as_json=as_json)
        elif as_json:
            said = json.loads(wire.entry_json(entry)) | _verified_json(verified)
            emit(msgspec.json.encode(said))
        else:
            _print_long(entry, verified)


@click.command(
    short_help="Say how much is stored.",
    epilog=examples(
        "holdfast stats",
        "holdfast stats -s ./data --json",
    ),
)
@store_options
@json_option
def stats(store: str, bucket: str, as_json: bool) -> None:  # noqa: FBT001
    """Say how much the store holds, over all buckets."""
    with opened(Target(store, bucket)) as place:
        numbers = place.stats()
    if as_json:
        emit(wire.stats_json(numbers))
    else:
        click.echo(f"entries   {numbers.entries:,}")
        click.echo(f"bytes     {numbers.entry_bytes:,} ({human_size(numbers.entry_bytes)})")
        click.echo(f"revision  {numbers.revision:,}")
        if numbers.away:
            click.echo(f"away      {shown(numbers.away)}")


def _lines(bucket: Bucket, options: dict[str, object]) -> Iterator[bytes]:
    cursor: str | None = None
    while True:
        page = bucket.list(
            prefix=str(options["prefix"]),
            delimiter=str(options["delimiter"]),
            cursor=cursor,
            limit=LIST_LIMIT_MAX,
        )
        found: list[Entry | str] = [*page.entries, *page.prefixes]
        yield from (_line(one, options) for one in sorted(found, key=_order))
        cursor = page.next
        if cursor is None:
            return


def _order(one: Entry | str) -> bytes:
    return (one if isinstance(one, str) else one.key).encode()


def _line(one: Entry | str, options: dict[str, object]) -> bytes:
    if options["as_json"]:
        return (
            json.dumps({"prefix": one}).encode() if isinstance(one, str) else wire.entry_json(one)
        )
    key = shown(one if isinstance(one, str) else one.key)
    if not options["is_long"]:
        return key.encode()
    if isinstance(one, str):
        return f"{'-':>15}  {'-':20}  {'-':24}  {'-':71}  {key}".encode()
    when = time_text(one.modified_at)
    kind = shown(one.content_type)
    return f"{one.size_bytes:>15,}  {when:20}  {kind:24}  {one.digest}  {key}".encode()


def _hashes(bucket: Bucket) -> Iterator[bytes]:
    cursor: str | None = None
    while True:
        page = bucket.content.list(cursor=cursor, limit=LIST_LIMIT_MAX)
        yield from (str(digest).encode() for digest in page.digests)
        cursor = page.next
        if cursor is None:
            return


def _print_blob(ref: BlobRef, verified: datetime | None, *, as_json: bool) -> None:
    if as_json:
        said = {"digest": str(ref.digest), "size_bytes": ref.size_bytes} | _verified_json(verified)
        emit(msgspec.json.encode(said))
        return
    _print_rows(
        {
            "digest": str(ref.digest),
            "cid": ref.digest.cid,
            "size": f"{ref.size_bytes:,} bytes ({human_size(ref.size_bytes)})",
            "verified": time_text(verified) if verified else NOT_YET,
        }
    )


def _verified(bucket: Bucket, digest: Digest) -> datetime | None:
    """When a blob was verified; of one that only a version holds, nobody is told."""
    try:
        return bucket.content.verified_at(digest)
    except NotFoundError:
        return None


def _verified_json(verified: datetime | None) -> dict[str, str | None]:
    return {"verified_at": None if verified is None else wire.format_moment(verified)}


def _print_long(entry: Entry, verified: datetime | None) -> None:
    rows = {
        "key": shown(entry.key),
        "bucket": entry.bucket,
        "size": f"{entry.size_bytes:,} bytes ({human_size(entry.size_bytes)})",
        "digest": str(entry.digest),
        "cid": entry.digest.cid,
        "type": shown(entry.content_type),
        "created": time_text(entry.created_at),
        "updated": time_text(entry.modified_at),
        "verified": time_text(verified) if verified else NOT_YET,
        "version": str(entry.version),
    }
    rows |= {f"meta {name}": shown(value) for name, value in sorted(entry.metadata.items())}
    _print_rows(rows)


def _print_rows(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"{name:{width}}  {value}")
