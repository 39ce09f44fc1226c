"""API keys: made once, shown once, kept as the SHA-256 of their secrets.

    k <id>   -> the key, JSON, with the hash of its secret

A key is spelled `hf_<id>_<secret>`: 12 and 43 characters of which the second has 256 random bits.
So many cannot be guessed, which is why one hash is enough to keep them (NIST SP 800-63B section
5.1.1.2 asks for slow hashes of what people choose). Keys are compared in constant time, and what
is wrong with a key is never told.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core import limits
from holdfast.core.access import ALL_SCOPES, ApiKey, Caller, Scope, Token, parse_token
from holdfast.core.errors import CorruptError, InvalidError, NotFoundError
from holdfast.core.kv import Delete, Put, Unchanged, Versioned, pages, prefix_end
from holdfast.core.networks import allows
from holdfast.core.policy import NOBODY
from holdfast.core.rates import NO_RATES
from holdfast.depot.policies import CHANGED, commit_removal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.kv import KV, Compare, Item, Write
    from holdfast.core.seams import Clock, Entropy
    from holdfast.depot.policies import Policies

KEY = b"k"
ID_BYTES = 6
SECRET_BYTES = 32
NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is kept of a key."""

    key: ApiKey
    hash: str
    """Hex of the SHA-256 of the secret."""


Opened = tuple[ApiKey, Caller]
"""The key that was shown, and who that is."""


class _Found(NamedTuple):
    """Keys that were looked up. Their ids are no secrets, so they are apart from what is shown."""

    by_token: dict[str, Opened]
    by_id: dict[str, Opened]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode


class Keys:
    """The API keys of a store; safe from any thread."""

    def __init__(self, kv: KV, clock: Clock, entropy: Entropy, policies: Policies) -> None:
        self._kv = kv
        self._clock = clock
        self._entropy = entropy
        self._policies = policies
        self._changes = -1
        self._found = _Found({}, {})

    def create(
        self, wanted: ApiKey, *, also: Callable[[ApiKey], Sequence[Write]] = lambda _: ()
    ) -> tuple[str, ApiKey]:
        """Make a key like `wanted`, whose id and time do not count; the token is shown only now.

        The same commit has what is `also` to be, by the key that is made.

        Raises:
            InvalidError: its owner, or the key that it is an alias of, does not exist.
            UnavailableError: its owner goes or changes at this moment.
        """
        if wanted.alias_of:
            original = self._find(wanted.alias_of)
            if original is None or original.key.alias_of:
                raise InvalidError("alias_of", wanted.alias_of[:100], "a key that is no alias")
            wanted = replace(
                wanted,
                owner=original.key.owner,
                scopes=ALL_SCOPES,
                buckets=(),
                **NO_RATES._asdict(),
            )
        holds = self._policies.steady(wanted.owner)
        if wanted.owner != NOBODY and self._policies.owner(wanted.owner) is None:
            raise InvalidError("owner", wanted.owner, "one that exists")
        new_id = self._entropy.random_bytes(ID_BYTES).hex()
        key = replace(wanted, id=new_id, created_us=self._clock.now_us())
        return self._store(key, (*holds, Unchanged(_row(new_id), 0)), also(key)), key

    def rotate(self, key_id: str, *, also: Sequence[Write] = ()) -> str:
        """Give a key a new secret; the old one opens nothing from now on.

        Raises:
            NotFoundError: no such key.
            UnavailableError: it changes at this moment.
        """
        stored = self._kv.get(_row(key_id))
        if stored is None:
            raise no_such_key(key_id)
        holds = (Unchanged(_row(key_id), stored.revision),)
        return self._store(_read(stored).key, holds, also)

    def revoke(self, key_id: str, *, also: Sequence[Write] = ()) -> bool:
        """Let a key, and its aliases, open nothing from now on; False if there is none."""
        if self._kv.get(_row(key_id)) is None:
            return False
        commit_removal(self._kv, (Delete(_row(key_id)), CHANGED), also)
        return True

    def get(self, key_id: str) -> ApiKey:
        """Describe a key.

        Raises:
            NotFoundError: no such key.
        """
        found = self._find(key_id)
        if found is None:
            raise no_such_key(key_id)
        return found.key

    def list(
        self,
        after: str = "",
        limit: int = limits.LIST_LIMIT_DEFAULT,
        owner: str | None = None,
    ) -> list[ApiKey]:
        """Keys behind the id `after`, of one owner or all, in the order of their ids."""
        found: list[ApiKey] = []
        start = _row(after) + b"\x00" if after else KEY
        for items in pages(self._kv, start, prefix_end(KEY)):
            keys = [_read(Versioned(item.value, item.revision)).key for item in items]
            found += [key for key in keys if owner in (None, key.owner)]
            if len(found) >= limit:
                break
        return found[:limit]

    def has_operator(self) -> bool:
        """Whether somebody has a key of who runs the store; looks at all keys."""
        after, now_us = "", self._clock.now_us()
        while found := self.list(after, limits.LIST_LIMIT_MAX, NOBODY):
            for key in found:
                lasts = key.expires_us == 0 or now_us < key.expires_us
                if Scope.ADMIN in key.scopes and lasts and not key.alias_of:
                    return True
            after = found[-1].id
        return False

    def caller(self, token: str, address: str) -> Caller | None:
        """Who shows this token from this address; None if it opens nothing, whyever.

        What was found is remembered while no key, owner or policy changes.
        """
        callers = self._remembered().by_token
        found = callers.get(token)
        if found is None:
            found = self._look_up(token)
            if found is None:
                return None
            _remember(callers, token, found)
        shown_key, caller = found
        if caller.is_steady:
            return caller
        return caller if self._is_valid(shown_key, caller.key, address) else None

    def signer(
        self, key_id: str, address: str, is_signed: Callable[[bytes], bool]
    ) -> Caller | None:
        """Who has signed something, by the hash of the secret; None if nobody who may, whyever.

        `is_signed` compares in constant time. It is asked also where there is no such key.
        """
        callers = self._remembered().by_id  # before the key is read, which may change meanwhile
        stored = self._find(key_id)
        expected = bytes.fromhex(stored.hash) if stored is not None else NO_HASH
        if not is_signed(expected) or stored is None:
            return None
        found = callers.get(key_id)
        if found is None:
            opened = self._open(stored)
            if opened is None:
                return None
            key, other = opened  # who is let in by a signature is steady for nobody
            found = key, Caller(other.key, other.owner_rates)
            _remember(callers, key_id, found)
        shown_key, caller = found
        return caller if self._is_valid(shown_key, caller.key, address) else None

    def _remembered(self) -> _Found:
        """Callers that were found, while nothing of them changes."""
        changes = self._policies.changes
        if changes != self._changes:
            self._found = _Found({}, {})
            self._changes = changes  # last: who sees it finds nothing of before
        return self._found

    def _is_valid(self, shown: ApiKey, key: ApiKey | None, address: str) -> bool:
        """Whether time and place are right for a key, and for the one that it is an alias of."""
        now_us = self._clock.now_us()
        return all(
            (one.expires_us == 0 or now_us < one.expires_us) and allows(one.networks, address)
            for one in (shown, key)
            if one is not None
        )

    def _look_up(self, token: str) -> Opened | None:
        """The key that is shown, and who that is."""
        shown = parse_token(token)
        stored = self._find(shown.id) if shown is not None else None
        expected = bytes.fromhex(stored.hash) if stored is not None else NO_HASH
        actual = shown.hash if shown is not None else NO_HASH
        if not hmac.compare_digest(expected, actual) or stored is None or shown is None:
            return None
        return self._open(stored)

    def _open(self, stored: _Stored) -> Opened | None:
        """What a key opens; None if its owner, or the key that it is an alias of, is not there."""
        key = stored.key
        if key.alias_of:
            original = self._find(key.alias_of)
            if original is None:
                return None
            key = original.key
        rates = NO_RATES
        if key.owner != NOBODY:
            owner = self._policies.owner(key.owner)
            if owner is None or owner.is_suspended:
                return None
            rates = owner.rates
        is_steady = not (key.expires_us or key.networks or stored.key.expires_us)
        return stored.key, Caller(key, rates, is_steady=is_steady and not stored.key.networks)

    def _store(self, key: ApiKey, holds: Sequence[Compare], also: Sequence[Write]) -> str:
        secret = base64.urlsafe_b64encode(self._entropy.random_bytes(SECRET_BYTES))
        token = Token(key.id, secret.decode().rstrip("="))
        write = Put(_row(key.id), _encode(_Stored(key, token.hash.hex())))
        self._policies.commit(holds, write, *also)
        return str(token)

    def _find(self, key_id: str) -> _Stored | None:
        stored = self._kv.get(_row(key_id))
        return None if stored is None else _read(stored)


def _remember(callers: dict[str, Opened], name: str, found: Opened) -> None:
    if len(callers) >= limits.CALLERS_KEPT_MAX:
        callers.clear()
    callers[name] = found


def no_such_key(key_id: str) -> NotFoundError:
    """Say that a key does not exist."""
    return NotFoundError("no such API key", id=key_id[:100])


def key_owner(item: Item) -> str:
    """Whose a stored key is.

    Raises:
        CorruptError: it is none.
    """
    return _read(Versioned(item.value, item.revision)).key.owner


def _row(key_id: str) -> bytes:
    return KEY + key_id[: limits.BUCKET_BYTES_MAX].encode(errors="replace")


def _read(stored: Versioned) -> _Stored:
    try:
        return _decode(stored.value)
    except msgspec.DecodeError as error:
        raise CorruptError("an API key is damaged") from error
