"""`holdfast put`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import click

from holdfast.cli.output import Watched, bar, emit, examples, note, print_entry
from holdfast.cli.store import Name, Target, json_option, opened, parse_name, store_options
from holdfast.core.bucket import CREATE_ONLY, Bucket, Description, Item, matches
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import BlobError, InvalidError
from holdfast.core.limits import MIB
from holdfast.core.preconditions import NO_CONDITIONS, Conditions

STEP_FILES = 500  # of a folder that are stored together
STEP_BYTES = 32 * MIB


class Job(NamedTuple):
    """One file and the key that it goes to."""

    file: Path
    key: str
    size_bytes: int = 0


class Manner(NamedTuple):
    """How files are stored."""

    about: Description
    when: Conditions


@click.command(
    short_help="Store a file, a folder or stdin.",
    epilog=examples(
        "holdfast put photo.jpg                          key photo.jpg",
        "holdfast put photo.jpg 2026/holiday.jpg         another key",
        "tar c src | holdfast put - backup/src.tar       from a pipe",
        "holdfast put -r photos 2026/                    keys 2026/...",
        "holdfast put -s ./data photo.jpg                into a folder, without a server",
        "holdfast put -m place=Oslo -n photo.jpg         with metadata, never replacing",
        "holdfast put --by-hash photo.jpg                named by its bytes alone",
    ),
)
@click.argument("file", metavar="FILE|-")
@click.argument("name", type=parse_name, required=False, metavar="[KEY]")
@store_options
@click.option("-r", "--recursive", is_flag=True, help="FILE is a folder; KEY begins all its keys.")
@click.option("-t", "--content-type", help="Media type; sniffed from the bytes unless given.")
@click.option(
    "-m", "--meta", multiple=True, metavar="NAME=VALUE", help="Metadata; may come again and again."
)
@click.option("--digest", metavar="SHA256", help="Refuse other bytes than these.")
@click.option("-n", "--create-only", is_flag=True, help="Do not replace: exit 4 if KEY exists.")
@click.option("--if-match", metavar="SHA256", help="Replace only this version: else exit 4.")
@click.option("--by-hash", is_flag=True, help="Store without a key; prints the digest.")
@json_option
@click.pass_context
def put(ctx: click.Context, /, **_: object) -> None:
    """Store FILE under KEY, or under its own name; `-` reads stdin.

    When this returns without error, the bytes survive a power cut. They were compared with
    their SHA-256 at both ends.

    KEY may be sha256:HEX: then the bytes must have this digest, and no key is made. A key that
    really looks so is written key:sha256:HEX.
    """
    options = ctx.params
    target = Target(options["store"], options["bucket"])
    file, name = options["file"], options["name"] or Name("", None)
    with opened(target, writing=True) as bucket:
        if options["by_hash"] or name.digest is not None:
            _put_hash(bucket, file, name.digest or _digest(options["digest"]), options["as_json"])
        elif options["recursive"]:
            _put_folder(bucket, Path(file), name.key, options)
        else:
            job = Job(Path(file), name.key or _own_name(file))
            print_entry(_put_one(bucket, job, _manner(options)), as_json=options["as_json"])


def _manner(options: dict[str, object]) -> Manner:
    content_type, digest = options["content_type"], _digest(options["digest"])
    metadata = dict(_pair(one) for one in cast(tuple[str, ...], options["meta"]))
    when = CREATE_ONLY if options["create_only"] else NO_CONDITIONS
    if (version := _digest(options["if_match"])) is not None:
        when = matches(f'"{version.hex()}"')
    return Manner(Description(cast(str | None, content_type), metadata or None, digest), when)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--meta {text}: write NAME=VALUE")
    return name, value


def _digest(text: object) -> Digest | None:
    return None if text is None else Digest.parse(str(text))


def _own_name(file: str) -> str:
    if file == "-":
        raise click.UsageError("stdin has no name: put - KEY")
    return Path(file).resolve().name


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "; -r stores a folder" if file.is_dir() else ""
        raise InvalidError("file", str(file), f"a readable file ({reason}{hint})") from None
    with stream:
        yield stream


def _put_one(bucket: Bucket, job: Job, manner: Manner) -> Entry:
    with _reading(job.file) as stream, bar(job.key, _size(stream)) as move:
        data = cast(BinaryIO, Watched(stream, move))
        return bucket.put(job.key, data, about=manner.about, when=manner.when)


def _put_hash(bucket: Bucket, file: str, digest: Digest | None, as_json: bool) -> None:  # noqa: FBT001
    with _reading(Path(file)) as stream, bar(file, _size(stream)) as move:
        stored = bucket.content.put(cast(BinaryIO, Watched(stream, move)), digest=digest)
    if as_json:
        emit(f'{{"digest":"{stored}"}}'.encode())
    else:
        click.echo(str(stored))


def _put_folder(bucket: Bucket, folder: Path, prefix: str, options: dict[str, object]) -> None:
    manner = _manner(options)
    jobs = list(_jobs(folder, prefix))
    total, done = sum(job.size_bytes for job in jobs), 0
    label = "" if sys.stdout.isatty() else str(folder)  # there the lines are the progress
    with bar(label, total) as move:
        for some in _steps(jobs):
            items = (Item(job.key, job.file, manner.about, manner.when) for job in some)
            for entry in bucket.put_many(items):
                if isinstance(entry, BlobError):
                    raise entry
                print_entry(entry, as_json=bool(options["as_json"]))
                done += entry.size_bytes
                move(done)


def _steps(jobs: list[Job]) -> Iterator[list[Job]]:
    """Cut a folder into parts that are stored together, small enough to show how it goes on."""
    some: list[Job] = []
    size_bytes = 0
    for job in jobs:
        some.append(job)
        size_bytes += job.size_bytes
        if len(some) == STEP_FILES or size_bytes >= STEP_BYTES:
            yield some
            some, size_bytes = [], 0
    yield some


def _jobs(folder: Path, prefix: str) -> Iterator[Job]:
    """Find the files of a folder in order; links to folders are not followed."""
    if not folder.is_dir():
        raise InvalidError("file", str(folder), "a folder, because of -r")
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            file = Path(root, name)
            if file.is_file():
                key = prefix + file.relative_to(folder).as_posix()
                yield Job(file, key, file.stat().st_size)
            else:
                note(f"skipped: {file} is no file")


def _size(stream: BinaryIO) -> int | None:
    if not stream.seekable():
        return None
    here = stream.tell()
    size = stream.seek(0, os.SEEK_END) - here
    stream.seek(here)
    return size
