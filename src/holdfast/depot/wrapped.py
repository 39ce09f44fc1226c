"""The wrappers around the bytes of a folder, which the folder remembers (docs/format.md).

    DIR/wrappers     {"format": 1, "compress": "zstd", "encrypt": "aes-256-gcm"}
                     format 2 where it has more members, such as "disks" (depot/disks.py) or
                     "dictionaries" (depot/dictionaries.py)
    DIR/keyring      the keys of an encrypted store (stores/keyring.py)

A folder that has compressed blobs is opened with compression, whoever opens it, since that needs no
secret; one that is encrypted is opened with its master key or not at all. So encoded bytes are
never taken for blobs. The file is durable before the first blob is encoded, and the folder then has
a format that older versions do not open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from holdfast.core.errors import (
    ConflictError,
    CorruptError,
    DeniedError,
    InvalidError,
    UnsupportedError,
)
from holdfast.core.guard import Guard
from holdfast.core.marker import replace_file
from holdfast.depot import dictionaries
from holdfast.log.folder import is_wrapped, mark_wrapped
from holdfast.log.segment import map_disk_error
from holdfast.stores.encoded import EncodedStore, Form
from holdfast.stores.through import Codecs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.core.seams import Clock, Disk, Entropy
    from holdfast.core.store import Store
    from holdfast.depot.stack import Stack
    from holdfast.stores.codec import Codec
    from holdfast.stores.keyring import Keyring

FORMAT = 1
MORE_FORMAT = 2
"""Of what holdfasts of format 1 would not see."""
WRAPPERS, KEYRING = "wrappers", "keyring"
ZSTD, AES = "zstd", "aes-256-gcm"


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A disk for large blobs."""

    id: str
    path: str
    weight: float


class Written(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The content of DIR/wrappers; empty words say that there is no such wrapper.

    A member that is not known is one that is damaged, or of a later format: to read on without it
    would be to take encoded bytes for blobs.
    """

    format: int = 0
    compress: str = ""
    encrypt: str = ""
    disks: tuple[Known, ...] = ()
    dictionaries: tuple[str, ...] = ()
    """Their names; the first is for new blobs (depot/dictionaries.py)."""


class _Format(msgspec.Struct, frozen=True):
    """What any version says first."""

    format: int = 0


class Seams(NamedTuple):
    """What wrapping a folder needs of the world."""

    disk: Disk
    clock: Clock
    entropy: Entropy


def written(folder: Path) -> Written:
    """Read what a folder was written with.

    Raises:
        CorruptError: the file is damaged.
        UnsupportedError: a newer holdfast wrote it.
    """
    path = folder / WRAPPERS
    try:
        data = path.read_bytes()
        _check_format(msgspec.json.decode(data, type=_Format).format)
        found = msgspec.json.decode(data, type=Written)
    except FileNotFoundError as error:
        if is_wrapped(folder):
            raise CorruptError("the file `wrappers` is gone", file=str(path)) from error
        return Written()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError("the file `wrappers` is damaged", file=str(path)) from error
    if found.compress not in {"", ZSTD} or found.encrypt not in {"", AES}:
        raise UnsupportedError("a newer holdfast has put wrappers around this store")
    return found


def _check_format(number: int) -> None:
    if number not in {FORMAT, MORE_FORMAT}:
        raise UnsupportedError("a newer holdfast has put wrappers around this store")


def codecs_for(
    folder: Path, stack: Stack, seams: Seams, is_empty: Callable[[], bool] | None
) -> Codecs:
    """Make the codecs of a folder, and let it remember those that are new.

    `is_empty` tells whether it has no blobs yet; who shares it with others gives None, and finds
    all there that is needed.

    Raises:
        DeniedError: it is encrypted, and the master key is missing or another one.
        ConflictError: it has blobs that are not encrypted.
        InvalidError: a new dictionary is none, or the store is not compressed.
        CorruptError, UnsupportedError: what it remembers cannot be read.
    """
    found = written(folder)
    wanted = _wanted(found, stack)
    codecs: list[Codec] = []
    if wanted.encrypt:
        from holdfast.stores.encrypted import Encryption  # noqa: PLC0415 - an extra

        keyring = _keyring(folder, found, stack, seams, is_empty)
        codecs.append(Encryption(keyring, seams.entropy))
    if stack.dictionary is not None and not stack.as_it_is:
        if not wanted.compress:
            raise InvalidError("dictionary", str(folder), "for a store that is compressed, only")
        wanted = dictionaries.added(folder, wanted, stack.dictionary, codecs, seams.disk)
    if wanted.compress:
        from holdfast.stores.compressed import Compression  # noqa: PLC0415 - an extra

        known = dictionaries.load(folder, wanted.dictionaries, codecs)
        codecs.insert(0, Compression(stack.level, known))
    if codecs and (wanted != found or not is_wrapped(folder)):
        assert is_empty is not None
        remember(folder, wanted, seams.disk)
    return Codecs(codecs)


def remember(folder: Path, wanted: Written, disk: Disk) -> None:
    """Let a folder say what is around its bytes, durably, and that it does.

    Raises:
        FullError, UnavailableError: the disk refuses.
    """
    wanted = replace(wanted, format=MORE_FORMAT if wanted.disks or wanted.dictionaries else FORMAT)
    try:
        replace_file(folder / WRAPPERS, msgspec.json.encode(wanted) + b"\n", disk)
        mark_wrapped(folder, disk, by_codecs=True)
    except OSError as error:
        raise map_disk_error(error) from error


def is_unused(store: Store) -> bool:
    """Whether a store has no blobs."""
    return next(store.scan(), None) is None


def wrap(store: Store, codecs: Codecs) -> Store:
    """Put codecs around a store."""
    for codec in reversed(codecs.each):
        store = EncodedStore(store, codec)
    return store


def zstd_of(store: Store, codecs: Codecs) -> Callable[..., Form | None] | None:
    """What opens the zstd form of blobs, of a store with these codecs around it."""
    if not codecs.each or codecs.each[0].coding != ZSTD:
        return None
    assert isinstance(store, EncodedStore)
    return store.open_form


def check_master(folder: Path, master: bytes | None) -> None:
    """See that a folder can be opened with a master key, or without one.

    Raises:
        DeniedError: it is encrypted, and the key is missing or another one.
        CorruptError, UnsupportedError: what it remembers cannot be read.
    """
    if not written(folder).encrypt:
        return
    if master is None:
        raise DeniedError(f"{folder} is encrypted: say encrypt=env:NAME or encrypt=file:PATH")
    read_keyring(folder, master)


def read_keyring(folder: Path, master: bytes) -> Keyring:
    """Read the keys of a folder.

    Raises:
        DeniedError: it needs another master key.
        CorruptError: the file is damaged, or gone.
    """
    from holdfast.stores.keyring import Keyring  # noqa: PLC0415 - an extra

    try:
        data = (folder / KEYRING).read_bytes()
    except FileNotFoundError as error:
        raise CorruptError(
            "the keyring of this store is gone, and with it all keys", file=str(folder / KEYRING)
        ) from error
    try:
        return Keyring.unseal(data, master)
    except DeniedError as error:
        raise DeniedError(f"{folder}: {error.message}", **error.facts) from None


def write_keyring(folder: Path, keyring: Keyring, master: bytes, seams: Seams) -> None:
    """Replace the keys of a folder, durably.

    Raises:
        FullError, UnavailableError: the disk refuses; the old ones are still there.
    """
    try:
        replace_file(folder / KEYRING, keyring.seal(master, seams.entropy), seams.disk)
    except OSError as error:
        raise map_disk_error(error) from error


def rotate(folder: Path, masters: tuple[bytes, bytes], seams: Seams, *, adds_key: bool) -> Keyring:
    """Seal the keys of a store that nobody has open with the second master key, maybe one more.

    Raises:
        UnavailableError: somebody has it open, or the disk refuses.
        DeniedError: it needs another master key than the first.
        CorruptError: the keyring is damaged, or gone.
    """
    before, after = masters
    try:
        guard = Guard(folder / "lock")
    except OSError as error:
        raise map_disk_error(error) from error
    try:
        keyring = read_keyring(folder, before)
        if adds_key:
            keyring = keyring.rotated(seams.entropy, seams.clock.now_us())
        write_keyring(folder, keyring, after, seams)
    finally:
        guard.release()
    return keyring


def _wanted(found: Written, stack: Stack) -> Written:
    """What a folder is going to remember."""
    if stack.as_it_is:
        return found
    return replace(
        found,
        compress=ZSTD if stack.compress else found.compress,
        encrypt=AES if stack.master is not None else found.encrypt,
    )


def _keyring(
    folder: Path,
    found: Written,
    stack: Stack,
    seams: Seams,
    is_empty: Callable[[], bool] | None,
) -> Keyring:
    from holdfast.stores.keyring import Keyring  # noqa: PLC0415 - an extra

    if stack.master is None:
        raise DeniedError(f"{folder} is encrypted: say encrypt=env:NAME or encrypt=file:PATH")
    if found.encrypt:
        return read_keyring(folder, stack.master)
    assert is_empty is not None
    if not is_empty():
        raise ConflictError(f"{folder} has blobs that are not encrypted; begin with an empty store")
    if (folder / KEYRING).exists():
        return read_keyring(folder, stack.master)
    keyring = Keyring.make(seams.entropy, seams.clock.now_us())
    write_keyring(folder, keyring, stack.master, seams)
    return keyring
