"""The keys of an encrypted store, in one file that a master key seals (docs/format.md).

Blobs are encrypted with the newest of the store's keys, and know it by its id; older ones stay for
what they have encrypted. So a new key costs nothing but a few bytes, and a new master key, which
opens nothing but this file, only writes the file anew. Who has the master key and the file has the
blobs; who has lost either has lost them.

    {"format": 1, "master": "<id>", "salt": "<hex>", "sealed": "<hex>"}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from holdfast.core.errors import CorruptError, DeniedError, InvalidError, UnsupportedError
from holdfast.stores.sealing import KEY_BYTES, NONCE_BYTES, Seal, derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.seams import Entropy

Head = dict[str, int | str]

FORMAT = 1
ID_BYTES = 8
SALT_BYTES = 16
NONCE = bytes(NONCE_BYTES)  # each salt makes another key, which seals once
MASTER_ALLOWED = "a master key is 64 hex digits: `holdfast keyring new` makes one"


class StoreKey(NamedTuple):
    """A key that blobs are encrypted with."""

    id: bytes
    secret: bytes
    made_us: int


class _Sealed(msgspec.Struct, frozen=True):
    names: bytes
    keys: list[tuple[bytes, bytes, int]]


class Keyring:
    """The keys of one store, oldest first; the last one is for new blobs."""

    def __init__(self, names: bytes, keys: Sequence[StoreKey]) -> None:
        assert keys
        self.names = names
        """What names are hidden with; it stays as it is, for else no blob would be found."""
        self.keys = list(keys)

    @classmethod
    def make(cls, entropy: Entropy, now_us: int) -> Self:
        """Make the keyring of a new store."""
        return cls(entropy.random_bytes(KEY_BYTES), [_new_key(entropy, now_us)])

    @property
    def newest(self) -> StoreKey:
        """The key for new blobs."""
        return self.keys[-1]

    def rotated(self, entropy: Entropy, now_us: int) -> Keyring:
        """The same with one more key."""
        return Keyring(self.names, [*self.keys, _new_key(entropy, now_us)])

    def seal(self, master: bytes, entropy: Entropy) -> bytes:
        """Make the file."""
        salt = entropy.random_bytes(SALT_BYTES)
        keys = [(key.id, key.secret, key.made_us) for key in self.keys]
        plain = msgspec.msgpack.encode(_Sealed(self.names, keys))
        head: Head = {"format": FORMAT, "master": master_id(master), "salt": salt.hex()}
        sealed = _seal(master, salt).seal(NONCE, plain, _bound(head))
        return json.dumps({**head, "sealed": sealed.hex()}).encode() + b"\n"

    @classmethod
    def unseal(cls, data: bytes, master: bytes) -> Self:
        """Read the file.

        Raises:
            DeniedError: it was sealed with another master key.
            CorruptError: it is damaged.
            UnsupportedError: a newer holdfast wrote it.
        """
        head, salt, sealed = _read(data)
        if head["master"] != master_id(master):
            raise DeniedError(
                "the keyring needs another master key",
                needs=str(head["master"]),
                given=master_id(master),
            )
        try:
            plain = _seal(master, salt).unseal(NONCE, sealed, _bound(head))
            found = msgspec.msgpack.decode(plain, type=_Sealed)
        except (CorruptError, msgspec.DecodeError) as error:
            raise CorruptError("the keyring is damaged") from error
        return cls(found.names, [StoreKey(*key) for key in found.keys])


def master_id(master: bytes) -> str:
    """A name for a master key that says nothing of it."""
    return derive(master, b"", b"master id", ID_BYTES).hex()


def parse_master(text: str, place: str) -> bytes:
    """Read a master key as people keep it; errors are about the `place` that it is from.

    Raises:
        InvalidError: it is none; what was given is not told.
    """
    try:
        master = bytes.fromhex(text.strip())
    except ValueError:
        master = b""
    if len(master) != KEY_BYTES:
        got = f"{len(text.strip())} characters"
        raise InvalidError(f"encrypt ({place})", got, MASTER_ALLOWED)
    return master


def _new_key(entropy: Entropy, now_us: int) -> StoreKey:
    return StoreKey(entropy.random_bytes(ID_BYTES), entropy.random_bytes(KEY_BYTES), now_us)


def _seal(master: bytes, salt: bytes) -> Seal:
    return Seal(derive(master, salt, b"keyring"))


def _bound(head: Head) -> bytes:
    return json.dumps(head, sort_keys=True).encode()


def _read(data: bytes) -> tuple[Head, bytes, bytes]:
    try:
        found = json.loads(data)
        head = {name: found[name] for name in ("format", "master", "salt")}
        salt, sealed = bytes.fromhex(found["salt"]), bytes.fromhex(found["sealed"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError("the keyring is damaged") from error
    if head["format"] != FORMAT:
        raise UnsupportedError("a newer holdfast wrote this keyring", format=str(head["format"]))
    return head, salt, sealed
