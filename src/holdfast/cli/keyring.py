"""`holdfast keyring`: the keys of an encrypted store."""

from typing import TYPE_CHECKING

import click
import msgspec

from holdfast import wire
from holdfast.cli.output import emit, examples
from holdfast.cli.store import json_option
from holdfast.config.settings import read_text
from holdfast.config.stack import locate, read_master
from holdfast.core.entry import moment
from holdfast.core.errors import InvalidError, NotFoundError
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.depot.wrapped import Seams, read_keyring, rotate, written

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.stores.keyring import Keyring

MASTER_BYTES = 32
store_argument = click.argument("store", metavar="DIR_OR_URL", envvar="HOLDFAST_STORE")


@click.group(short_help="Make and rotate the keys of an encrypted store.")
def keyring() -> None:
    """Make and rotate the keys of an encrypted store.

    Blobs are encrypted with store keys, which lie in the store's keyring. A master key seals that:
    64 hex digits in an environment variable or a file, of which `encrypt` says which. Who loses the
    master key or the keyring has lost all blobs: keep copies of both, apart.
    """


@keyring.command(
    short_help="Print a new master key.",
    epilog=examples("(umask 077; holdfast keyring new > master-key)    keep it where you can"),
)
def new() -> None:
    """Print a new master key; it is kept nowhere."""
    click.echo(SystemEntropy().random_bytes(MASTER_BYTES).hex())


@keyring.command(
    "list",
    short_help="List the ids of a store's keys.",
    epilog=examples(
        "holdfast keyring list 'segments:///srv/blobs?encrypt=env:BLOBS_KEY'",
        "HOLDFAST_ENCRYPT=file:master-key holdfast keyring list ./data --json",
    ),
)
@store_argument
@json_option
def list_keys(store: str, as_json: bool) -> None:  # noqa: FBT001
    """List the ids of the store keys in a folder, oldest first; the last is for new blobs."""
    folder, master = _opened(store)
    _print(read_keyring(folder, master), as_json=as_json)


@keyring.command(
    "rotate",
    short_help="Add a store key, or change the master key.",
    epilog=examples(
        "holdfast keyring rotate 'segments:///srv/blobs?encrypt=env:BLOBS_KEY'",
        "holdfast keyring rotate ./data --master file:new-master-key     and no new store key",
    ),
)
@store_argument
@click.option(
    "--master",
    "place",
    metavar="PLACE",
    help="Seal with the master key in env:NAME or file:PATH from now on.",
)
@json_option
def rotate_keys(store: str, place: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Make a new key for blobs that are stored from now on; older ones stay readable.

    With --master, no key is made, but the keyring is sealed with another master key. No blob is
    touched either way. The folder must not be in use.
    """
    folder, master = _opened(store)
    after = master if place is None else _next_master(place)
    seams = Seams(Disk(), SystemClock(), SystemEntropy())
    _print(rotate(folder, (master, after), seams, adds_key=place is None), as_json=as_json)


def _opened(store: str) -> "tuple[Path, bytes]":
    folder, wanted, _ = locate(store)
    if not written(folder).encrypt:
        raise NotFoundError(f"there is no encrypted store at {folder}")
    master = read_master(wanted.encrypt)
    if master is None:
        raise InvalidError("encrypt", wanted.encrypt, "say encrypt=env:NAME or encrypt=file:PATH")
    return folder, master


def _next_master(place: str) -> bytes:
    """Read the master key that is to come.

    Raises:
        InvalidError: there is none, or `place` says none; what it says may be the key itself.
    """
    master = read_master(read_text("encrypt", place, "--master"))
    if master is None:
        raise InvalidError("--master", place, "env:NAME or file:PATH, where the next one is")
    return master


def _print(keys: "Keyring", *, as_json: bool) -> None:
    for key in keys.keys:
        made_at = wire.format_moment(moment(key.made_us))
        is_newest = key is keys.newest
        if as_json:
            found = {"id": key.id.hex(), "made_at": made_at, "newest": is_newest}
            emit(msgspec.json.encode(found))
        else:
            click.echo(f"{key.id.hex()}  {made_at}" + ("  for new blobs" if is_newest else ""))
