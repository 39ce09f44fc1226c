"""`holdfast hash`."""

import json
import sys
from pathlib import Path
from typing import BinaryIO

import click

from holdfast.cli.output import examples, shown
from holdfast.cli.store import json_option
from holdfast.core.digest import BlobRef, Hasher
from holdfast.core.errors import InvalidError
from holdfast.core.limits import CHUNK_BYTES


@click.command(
    short_help="Print the digest of files.",
    epilog=examples(
        "holdfast hash photo.jpg",
        "curl -s https://example.org | holdfast hash -",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE|-...")
@json_option
def hash(files: tuple[str, ...], as_json: bool) -> None:  # noqa: A001, FBT001 - the command's name
    """Print the name that the bytes of FILE have in every holdfast store.

    It comes in two spellings, sha256:HEX and the CID of AT Protocol; --json adds the size. No
    store is asked.
    """
    for file in files:
        digest, size_bytes = _hash(file)
        if as_json:
            facts = {"file": file, "digest": str(digest), "cid": digest.cid}
            click.echo(json.dumps(facts | {"size_bytes": size_bytes}))
        else:
            click.echo(f"{digest}  {digest.cid}  {shown(file)}")


def _hash(file: str) -> BlobRef:
    if file == "-":
        return _hash_stream(sys.stdin.buffer)
    try:
        with Path(file).open("rb") as stream:
            return _hash_stream(stream)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidError("file", file, f"a readable file ({reason})") from None


def _hash_stream(stream: BinaryIO) -> BlobRef:
    hasher = Hasher()
    while chunk := stream.read(CHUNK_BYTES):
        hasher.update(chunk)
    return hasher.ref()
