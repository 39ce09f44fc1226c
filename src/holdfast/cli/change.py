"""`holdfast rm`, `holdfast cp` and `holdfast mv`."""

from collections.abc import Iterator, Sequence

import click

from holdfast.cli.exits import exit_code
from holdfast.cli.output import examples, note, print_entry, shown
from holdfast.cli.store import Name, Target, json_option, opened, parse_name, store_options
from holdfast.core.bucket import CREATE_ONLY, Bucket
from holdfast.core.errors import BlobError, InvalidError
from holdfast.core.preconditions import NO_CONDITIONS

MISSING = 3


@click.command(
    short_help="Remove keys.",
    epilog=examples(
        "holdfast rm 2026/holiday.jpg",
        "holdfast rm -f maybe.txt",
        "holdfast rm sha256:9f86d0...                    let go of a blob put with --by-hash",
    ),
)
@click.argument("names", type=parse_name, nargs=-1, required=True, metavar="KEY...")
@store_options
@click.option("-f", "--force", is_flag=True, help="A key that is not there is no error.")
@click.pass_context
def rm(
    ctx: click.Context, names: tuple[Name, ...], store: str, bucket: str, *, force: bool
) -> None:
    """Remove KEYs. Bytes that another key or the content face holds stay.

    All are tried; the exit code is 3 if one was not there, or that of the last error.
    """
    code = 0
    with opened(Target(store, bucket)) as place:
        for name, deleted in _remove(place, names):
            shown_name = shown(name.key or str(name.digest))
            if isinstance(deleted, BlobError):
                note(f"holdfast: {shown_name}: {deleted.message}")
                code = exit_code(deleted)
            elif not deleted and name.digest is None and not force:
                note(f"holdfast: {shown_name}: no such key")
                code = code or MISSING
    ctx.exit(code)


def _remove(place: Bucket, names: Sequence[Name]) -> Iterator[tuple[Name, bool | BlobError]]:
    """Remove keys with few requests, and digests likewise; tell in the order of the command."""
    keys = iter(place.delete_many(name.key for name in names if name.digest is None))
    hashes = iter(place.content.delete_many(name.digest for name in names if name.digest))
    return ((name, next(hashes if name.digest else keys)) for name in names)


@click.command(
    short_help="Copy a key within the store, without moving bytes.",
    epilog=examples(
        "holdfast cp photo.jpg 2026/holiday.jpg",
        "holdfast cp photo.jpg photo.jpg --to-bucket archive",
    ),
)
@click.argument("name", type=parse_name, metavar="KEY")
@click.argument("to", type=parse_name, metavar="NEW")
@store_options
@click.option("--to-bucket", metavar="NAME", help="Bucket of NEW; that of KEY unless given.")
@click.option("-n", "--create-only", is_flag=True, help="Do not replace: exit 4 if NEW exists.")
@json_option
@click.pass_context
def cp(ctx: click.Context, /, **_: object) -> None:
    """Give the bytes of KEY a second name, NEW."""
    _transfer(ctx.params, move=False)


@click.command(
    short_help="Rename a key.",
    epilog=examples(
        "holdfast mv draft.txt final.txt",
    ),
)
@click.argument("name", type=parse_name, metavar="KEY")
@click.argument("to", type=parse_name, metavar="NEW")
@store_options
@click.option("--to-bucket", metavar="NAME", help="Bucket of NEW; that of KEY unless given.")
@click.option("-n", "--create-only", is_flag=True, help="Do not replace: exit 4 if NEW exists.")
@json_option
@click.pass_context
def mv(ctx: click.Context, /, **_: object) -> None:
    """Rename KEY to NEW in one step: nobody ever sees both or neither."""
    _transfer(ctx.params, move=True)


def _transfer(options: dict[str, object], *, move: bool) -> None:
    source, to = options["name"], options["to"]
    assert isinstance(source, Name)
    assert isinstance(to, Name)
    if source.digest is not None or to.digest is not None:
        got = str(source.digest or to.digest)
        raise InvalidError("key", got, "a key; write key:sha256:... for one that looks so")
    when = CREATE_ONLY if options["create_only"] else NO_CONDITIONS
    to_bucket = str(options["to_bucket"]) if options["to_bucket"] else None
    with opened(Target(str(options["store"]), str(options["bucket"]))) as bucket:
        verb = bucket.move if move else bucket.copy
        entry = verb(source.key, to.key, to_bucket=to_bucket, when=when)
    print_entry(entry, as_json=bool(options["as_json"]))
