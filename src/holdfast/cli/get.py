"""`holdfast get` and `holdfast cat`."""

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import click

from holdfast.cli.output import bar, examples, note
from holdfast.cli.store import (
    Name,
    Target,
    json_option,
    opened,
    parse_name,
    store_options,
    version_option,
)
from holdfast.core.errors import InvalidError
from holdfast.core.limits import CHUNK_BYTES
from holdfast.core.ranges import parse_range
from holdfast.core.store import Span


@click.command(
    short_help="Fetch a blob into a file.",
    epilog=examples(
        "holdfast get 2026/holiday.jpg                   into ./holiday.jpg",
        "holdfast get 2026/holiday.jpg /tmp/h.jpg        into that file",
        "holdfast get sha256:9f86d0... page.html         by the digest of the bytes",
        "holdfast get key:sha256:9f86d0... odd           by a key that looks like a digest",
    ),
)
@click.argument("name", type=parse_name, metavar="KEY")
@click.argument("file", required=False, metavar="[FILE]")
@store_options
@version_option
@json_option
@click.pass_context
def get(ctx: click.Context, /, name: Name, file: str | None, **_: object) -> None:
    """Fetch KEY into FILE, or into the last part of KEY in this folder.

    The file appears under its name when all of it is there and has the right SHA-256; a file
    that was there is replaced at that moment. FILE may be a folder, or `-` for stdout.
    """
    target = Path(file) if file is not None else Path()
    if str(target) != "-" and target.is_dir():
        target /= _own_name(name)
    options = ctx.params
    with (
        opened(Target(options["store"], options["bucket"])) as place,
        name.open(place, options["version"]) as source,
    ):
        if str(target) == "-":
            size_bytes = _copy(source, sys.stdout.buffer, "")
        else:
            size_bytes = _fetch(source, target)
    if options["as_json"] and str(target) != "-":
        import json  # noqa: PLC0415 - only here

        click.echo(json.dumps({"file": str(target), "size_bytes": size_bytes}))


@click.command(
    short_help="Write a blob, or a part, to stdout.",
    epilog=examples(
        "holdfast cat notes.txt",
        "holdfast cat film.mp4 --range 0-1048575 | file -",
        "holdfast cat sha256:9f86d0... | sha256sum",
    ),
)
@click.argument("name", type=parse_name, metavar="KEY")
@store_options
@click.option(
    "--range",
    "part",
    metavar="FIRST-LAST",
    help="Only these bytes, counted from 0: 0-99, 100- or -100 for the last hundred.",
)
@version_option
def cat(name: Name, store: str, bucket: str, part: str | None, version: int | None) -> None:
    """Write KEY to stdout."""
    with opened(Target(store, bucket)) as place, name.open(place, version) as source:
        span = _span(part, source.seek(0, os.SEEK_END)) if part is not None else None
        source.seek(span.offset if span else 0)
        _copy(source, sys.stdout.buffer, "", span.size_bytes if span else None)


def _span(part: str, size_bytes: int) -> Span:
    spans = parse_range(f"bytes={part}", size_bytes)
    if spans is None or len(spans) != 1:
        if size_bytes == 0 and part:
            return Span(0, 0)
        raise InvalidError("--range", part, "FIRST-LAST, FIRST- or -COUNT")
    return spans[0]


def _own_name(name: Name) -> str:
    own = name.digest.file_name if name.digest else name.key.rpartition("/")[2]
    if own in {"", ".", ".."} or "\0" in own:
        raise InvalidError("key", name.key, "a key whose last part can name a file; say FILE")
    return own


def _fetch(source: BinaryIO, target: Path) -> int:
    """Write beside `target` and rename; what is left half is removed."""
    folder = target.absolute().parent
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:80]}.", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            size_bytes = _copy(source, stream, target.name)
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
        Path(temporary).replace(target)
    finally:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
    if sys.stderr.isatty():
        note(f"{target}: {size_bytes:,} bytes")
    return size_bytes


def _umask() -> int:
    """Read the mask for new files, which cannot be asked for without setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _copy(source: BinaryIO, sink: BinaryIO, label: str, size_bytes: int | None = None) -> int:
    """Copy to the end, or `size_bytes`; a bar shows it under `label`, if there is one."""
    start = source.tell()
    total = source.seek(0, os.SEEK_END) - start if size_bytes is None else size_bytes
    source.seek(start)
    done = 0
    with bar(label, total) as move:
        while done < total and (chunk := source.read(min(CHUNK_BYTES, total - done))):
            sink.write(chunk)
            done += len(chunk)
            move(done)
    sink.flush()
    return done
