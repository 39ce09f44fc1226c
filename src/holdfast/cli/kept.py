"""`holdfast deleted`, `undelete`, `versions` and `restore`."""

from collections.abc import Iterator
from functools import partial

import click

from holdfast import wire
from holdfast.cli.exits import exit_code
from holdfast.cli.output import emit, examples, note, print_entry, shown, time_text
from holdfast.cli.store import Target, json_option, opened, parse_key, store_options
from holdfast.core.bucket import Bucket, matches
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, Grave
from holdfast.core.errors import BlobError
from holdfast.core.limits import LIST_LIMIT_MAX
from holdfast.core.many import outcome
from holdfast.core.preconditions import NO_CONDITIONS


@click.command(
    short_help="List deleted keys that can be brought back.",
    epilog=examples(
        "holdfast deleted                           all of the bucket",
        "holdfast deleted 2026/ --json | jq -r .until_at",
    ),
)
@click.argument("prefix", default="", metavar="[PREFIX]")
@store_options
@json_option
def deleted(prefix: str, store: str, bucket: str, as_json: bool) -> None:  # noqa: FBT001
    """List deleted keys that begin with PREFIX: when each was deleted, and when it goes for good.

    A key that was stored again is not among them.
    """
    with opened(Target(store, bucket)) as place:
        for grave in _graves(place, prefix):
            if as_json:
                emit(wire.grave_json(grave))
            else:
                times = f"{time_text(grave.deleted_at)}  {time_text(grave.until_at)}"
                click.echo(f"{times}  {grave.entry.size_bytes:>15,}  {shown(grave.entry.key)}")


def _graves(bucket: Bucket, prefix: str) -> Iterator[Grave]:
    cursor: str | None = None
    while True:
        page = bucket.deleted(prefix=prefix, cursor=cursor, limit=LIST_LIMIT_MAX)
        yield from page.graves
        cursor = page.next
        if cursor is None:
            return


@click.command(
    short_help="Bring deleted keys back.",
    epilog=examples(
        "holdfast undelete 2026/holiday.jpg",
        "holdfast undelete lost.jpg --digest sha256:9f86d0...   a blob without a name",
    ),
)
@click.argument("keys", type=parse_key, nargs=-1, required=True, metavar="KEY...")
@store_options
@click.option(
    "--digest",
    type=Digest.parse,
    metavar="SHA256",
    help="Give KEY to this blob, which may have no name any more: see `holdfast gc`.",
)
@json_option
@click.pass_context
def undelete(
    ctx: click.Context,
    /,
    keys: tuple[str, ...],
    store: str,
    bucket: str,
    digest: Digest | None,
    *,
    as_json: bool,
) -> None:
    """Bring deleted KEYs back as they were, with their versions.

    All are tried; the exit code is that of the last error: 3 when a key was never there or is gone
    for good, 4 when it is in use again.
    """
    code = 0
    with opened(Target(store, bucket)) as place:
        for key in keys:
            found = outcome(partial(place.undelete, digest=digest), key)
            if isinstance(found, BlobError):
                _complain(key, found, as_json=as_json)
                code = exit_code(found)
            else:
                print_entry(found, as_json=as_json)
    ctx.exit(code)


def _complain(key: str, error: BlobError, *, as_json: bool) -> None:
    if as_json:
        click.echo(wire.error_json(error), err=True)
    else:
        note(f"holdfast: {shown(key)}: {error.message}")


@click.command(
    short_help="List the versions of a key.",
    epilog=examples(
        "holdfast versions report.pdf",
        "holdfast get report.pdf old.pdf --version 3",
    ),
)
@click.argument("key", type=parse_key, metavar="KEY")
@store_options
@json_option
def versions(key: str, store: str, bucket: str, as_json: bool) -> None:  # noqa: FBT001
    """List what KEY is and what is kept of what it was, the newest first."""
    with opened(Target(store, bucket)) as place:
        for entry in _versions(place, key):
            if as_json:
                emit(wire.entry_json(entry))
            else:
                when = time_text(entry.modified_at)
                click.echo(f"{entry.version:>6}  {when}  {entry.size_bytes:>15,}  {entry.digest}")


def _versions(bucket: Bucket, key: str) -> Iterator[Entry]:
    cursor: str | None = None
    while True:
        page = bucket.versions(key, cursor=cursor, limit=LIST_LIMIT_MAX)
        yield from page.entries
        cursor = page.next
        if cursor is None:
            return


@click.command(
    short_help="Make a key what it was in an earlier version.",
    epilog=examples(
        "holdfast restore report.pdf 3",
    ),
)
@click.argument("key", type=parse_key, metavar="KEY")
@click.argument("version", type=click.IntRange(0), metavar="VERSION")
@store_options
@click.option(
    "--if-match", type=Digest.parse, metavar="SHA256", help="Only while KEY is this; else exit 4."
)
@json_option
@click.pass_context
def restore(ctx: click.Context, /, key: str, version: int, **_: object) -> None:
    """Make KEY what it was in its VERSION; that is a new version, and the others stay."""
    options = ctx.params
    digest: Digest | None = options["if_match"]
    when = matches(f'"{digest.hex()}"') if digest is not None else NO_CONDITIONS
    with opened(Target(options["store"], options["bucket"])) as place:
        entry = place.restore(key, version, when=when)
    print_entry(entry, as_json=options["as_json"])
