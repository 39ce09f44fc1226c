"""Which store, which bucket, which blob: the options and names that all verbs share."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import click

from holdfast.cli.output import opening_bar
from holdfast.config import open_bucket
from holdfast.config.stack import Located, check_writable, locate
from holdfast.config.target import is_server
from holdfast.core.bucket import Bucket
from holdfast.core.digest import Digest
from holdfast.core.errors import InvalidError, NotFoundError
from holdfast.core.marker import NAME
from holdfast.core.urls import shown_url

F = TypeVar("F", bound=Callable[..., object])

DEFAULT_STORE = "http://127.0.0.1:3000"
HASH_NAME = re.compile(r"sha256:[0-9a-f]{64}")
KEY_MARK = "key:"


place_option = click.option(
    "-s",
    "--store",
    metavar="DIR_OR_URL",
    envvar="HOLDFAST_STORE",
    default=DEFAULT_STORE,
    show_default=True,
    help="The store: a folder, or the URL of a server.",
)


class Target(NamedTuple):
    """The store and the bucket that a command works on."""

    store: str
    bucket: str


class Name(NamedTuple):
    """A blob by its key or, when `digest` is there, by its bytes."""

    key: str
    digest: Digest | None

    def open(self, bucket: Bucket, version: int | None = None) -> BinaryIO:
        """Open the blob as a seekable file."""
        self.check_version(version)
        if self.digest is not None:
            return bucket.content.open(self.digest)
        return bucket.open(self.key, version=version)

    def check_version(self, version: int | None) -> None:
        """See that a version is asked of a key alone.

        Raises:
            InvalidError: it is not.
        """
        if version is not None and self.digest is not None:
            raise InvalidError("--version", str(self.digest), "versions are those of a key")


def parse_name(text: str) -> Name:
    """Tell keys from digests: KEY, sha256:HEX, or key:KEY for one that looks like the others.

    >>> parse_name("photo.jpg").key, parse_name("key:sha256:x").key
    ('photo.jpg', 'sha256:x')
    >>> parse_name("sha256:" + "0" * 64).digest == Digest(bytes(32))
    True
    """
    if HASH_NAME.fullmatch(text):
        return Name("", Digest.parse(text))
    return Name(text.removeprefix(KEY_MARK), None)


def parse_key(text: str) -> str:
    """Read a key: KEY, or key:KEY.

    Raises:
        InvalidError: it is a digest.
    """
    name = parse_name(text)
    if name.digest is not None:
        raise InvalidError("key", text, "a key; write key:sha256:... for one that looks so")
    return name.key


def store_options(command: F) -> F:
    """Add --store and --bucket."""
    for option in (
        click.option(
            "-b",
            "--bucket",
            metavar="NAME",
            envvar="HOLDFAST_BUCKET",
            default="default",
            show_default=True,
            help="Bucket that the keys are in.",
        ),
        place_option,
    ):
        command = option(command)
    return command


version_option = click.option(
    "--version", type=click.IntRange(0), metavar="N", help="What the key was in its version N."
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object a line, also for errors."
)


@contextmanager
def opened(target: Target, *, writing: bool = False) -> Iterator[Bucket]:
    """Open the bucket of a target; only writing makes a store that is not there.

    Raises:
        NotFoundError: it is not there.
    """
    folder = folder_in(target.store)
    if not writing and folder is not None:
        check_there(folder)
    with opening_bar() as watch:
        store = open_bucket(target.store, watch=watch)
    with store:
        yield store.bucket(target.bucket)


def existing(store: str) -> Located:
    """Find a folder with a store in it, by its path or URL.

    Raises:
        InvalidError: it is a server, which looks after its folder by itself, or cannot be written.
        NotFoundError: there is none.
    """
    if folder_in(store) is None:
        raise InvalidError("store", shown_url(store), "a folder, or the URL of one")
    located = locate(store)
    check_there(located.folder)
    check_writable(located.folder, "store")
    return located


def check_there(folder: Path) -> None:
    """See that a folder has a store, which opening it would else make there.

    Raises:
        NotFoundError: it has none.
    """
    if not (folder / NAME).exists():
        raise NotFoundError(f"there is no store at {folder}")


def folder_in(store: str) -> Path | None:
    """The folder that a store is; None for a server."""
    return None if is_server(store) else locate(store).folder
