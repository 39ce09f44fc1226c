"""Who may do what: API keys, and callers that have shown one.

A key belongs to an owner and opens the owner's buckets, or some of them. The key of nobody
(`owner` is empty) is that of who runs the store: with the scope `admin` it opens everything.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from holdfast.core import limits
from holdfast.core.errors import DeniedError, InvalidError, NotFoundError, UnauthenticatedError
from holdfast.core.networks import check_network, covers
from holdfast.core.policy import (
    NO_POLICY,
    NOBODY,
    OWNER_MARK,
    Policy,
    bucket_of,
    check_bucket,
    owner_of,
)
from holdfast.core.rates import NO_RATES, Rates


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    LIST = "list"
    ADMIN = "admin"
    """Policies, keys and owners: those of the key's owner, or all, for the key of nobody."""


ALL_SCOPES = tuple(Scope)
TOKEN = re.compile(r"hf_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key; its secret is not."""

    id: str
    owner: str = NOBODY
    scopes: tuple[Scope, ...] = ALL_SCOPES
    buckets: tuple[str, ...] = ()
    """Names without their owner; none opens all of them."""
    label: str = ""
    created_us: int = 0
    expires_us: int = 0
    """0: never."""
    networks: tuple[str, ...] = ()
    """Addresses that it may be used from, such as `10.0.0.0/8`; none allows all."""
    alias_of: str = ""
    """The id of a key whose owner, scopes, buckets and rates it shares, while that one lives."""
    requests_s: float | None = None
    """How many requests a second; None leaves it to the server, 0 is no limit."""
    bytes_s: float | None = None
    burst_s: float | None = None

    def __post_init__(self) -> None:
        """Check every member.

        Raises:
            InvalidError: one is out of its bounds.
        """
        for name in self.buckets:
            check_bucket(name)
            if OWNER_MARK in name:
                raise InvalidError("buckets", name[:100], "names without their owner")
        if len(self.buckets) > limits.KEY_BUCKETS_MAX:
            raise InvalidError("buckets", len(self.buckets), f"at most {limits.KEY_BUCKETS_MAX}")
        if len(self.networks) > limits.KEY_NETWORKS_MAX:
            raise InvalidError("networks", len(self.networks), f"at most {limits.KEY_NETWORKS_MAX}")
        for network in self.networks:
            check_network(network)
        self.rates.check()
        if len(self.label.encode(errors="replace")) > limits.LABEL_BYTES_MAX:
            raise InvalidError("label", self.label[:100], f"{limits.LABEL_BYTES_MAX} bytes")

    @property
    def rates(self) -> Rates:
        """How fast it may be used."""
        return Rates(self.requests_s, self.bytes_s, self.burst_s)

    def covers(self, other: "ApiKey") -> bool:
        """Whether another key may nothing that this one may not, of whichever owner it is."""
        return (
            set(other.scopes) <= set(self.scopes)
            and (
                not self.buckets
                or (other.buckets != () and set(other.buckets) <= set(self.buckets))
            )
            and covers(self.networks, other.networks)
            and (self.expires_us == 0 or 0 < other.expires_us <= self.expires_us)
            and self.rates.covers(other.rates)
        )


class Token(NamedTuple):
    """An API key as it is shown, in its two parts."""

    id: str
    secret: str

    @property
    def hash(self) -> bytes:
        """What a store keeps of the secret; presigned URLs are signed with it."""
        return hashlib.sha256(self.secret.encode()).digest()

    def __str__(self) -> str:
        return f"hf_{self.id}_{self.secret}"


def parse_token(text: str) -> Token | None:
    """Read an API key as it is shown; None if it is none."""
    match = TOKEN.fullmatch(text)
    return None if match is None else Token(match[1], match[2])


class Caller:
    """Whoever a request comes from; safe from any thread."""

    __slots__ = ("_own", "is_steady", "key", "owner_rates")

    def __init__(
        self, key: ApiKey | None, owner_rates: Rates = NO_RATES, *, is_steady: bool = False
    ) -> None:
        """Speak for a key; None for somebody who has shown none.

        One is steady if nothing but a change of keys or policies can change what it may.
        """
        self.key = key
        self.owner_rates = owner_rates
        """Of all keys of the owner together."""
        self.is_steady = is_steady
        self._own: dict[tuple[str, Scope], str] = {}

    @property
    def owner(self) -> str:
        """Whose buckets it names without saying whose."""
        return NOBODY if self.key is None else self.key.owner

    @property
    def buckets(self) -> Sequence[str]:
        """Which buckets of its owner the key is for, without the owner; none: all of them."""
        return () if self.key is None else self.key.buckets

    @property
    def is_operator(self) -> bool:
        """Whether it may do anything."""
        key = self.key
        return key is not None and key.owner == NOBODY and Scope.ADMIN in key.scopes

    def bucket(self, name: str) -> str:
        """The whole name of a bucket as it was addressed.

        Raises:
            InvalidError: it is none.
        """
        return check_bucket(name if OWNER_MARK in name else bucket_of(self.owner, name))

    def own(self, name: str, scope: Scope) -> str | None:
        """The whole name of a bucket in which its key allows this, whatever policies say.

        None means that others have to be asked. The answer is remembered: a key does not change.

        Raises:
            InvalidError: the bucket is none.
        """
        found = self._own.get((name, scope))
        if found is None and self.key is not None:
            bucket = self.bucket(name)
            with suppress(DeniedError, NotFoundError):
                self.check(scope, bucket, NO_POLICY)
                if len(self._own) >= limits.OWN_BUCKETS_KEPT_MAX:
                    self._own.clear()
                found = self._own[name, scope] = bucket
        return found

    def check(self, scope: Scope | None, bucket: str, policy: Policy) -> None:
        """Let the caller do this in a bucket, or say why not; None: know what its own may hold.

        What somebody else has looks as if it were not there, and writing to it is denied whether
        it is or not.

        Raises:
            UnauthenticatedError: nobody may without a key.
            DeniedError: this key may not.
            NotFoundError: so that it learns nothing.
        """
        if self.is_operator or (scope is Scope.READ and policy.public):
            return
        key = self.key
        if key is None:
            raise unauthenticated()
        if key.owner != owner_of(bucket):
            if scope in {Scope.READ, None}:
                raise NotFoundError("no such key", bucket=bucket)
            raise DeniedError("this bucket is not yours", bucket=bucket)
        if scope is not None and scope not in key.scopes:
            raise DeniedError(f"the key has no scope {scope.value}", scope=scope.value)
        if key.buckets and bucket.rpartition(OWNER_MARK)[2] not in key.buckets:
            raise DeniedError("the key is for other buckets", bucket=bucket)

    def check_own(self, scope: Scope) -> None:
        """Let the caller do this in `buckets` of its owner.

        Raises:
            UnauthenticatedError: it has shown no key.
            DeniedError: this key may not.
        """
        if self.is_operator:
            return
        if self.key is None:
            raise unauthenticated()
        if scope not in self.key.scopes:
            raise DeniedError(f"the key has no scope {scope.value}", scope=scope.value)

    def check_content(self, scope: Scope) -> None:
        """Let the caller use blobs by their hashes, over all buckets of its owner.

        Raises:
            UnauthenticatedError: it has shown no key.
            DeniedError: this key may not.
        """
        self.check_own(scope)
        if self.buckets and not self.is_operator:
            raise DeniedError("the key is for some buckets, and hashes are over all")

    def check_admin(self) -> None:
        """Let the caller look after keys, policies and webhooks: its owner's, or all.

        Raises:
            UnauthenticatedError: it has shown no key.
            DeniedError: this key may not.
        """
        if self.key is None:
            raise unauthenticated()
        if Scope.ADMIN not in self.key.scopes:
            raise DeniedError("the key has no scope admin", scope="admin")

    def check_operator(self) -> None:
        """Let the caller do what only who runs the store may.

        Raises:
            UnauthenticatedError: it has shown no key.
            DeniedError: this key may not.
        """
        if self.key is None:
            raise unauthenticated()
        if not self.is_operator:
            raise DeniedError("only who runs the store may do this")


OPERATOR = Caller(ApiKey(id=""), is_steady=True)
"""Whoever calls a store that asks for no keys."""


def unauthenticated() -> UnauthenticatedError:
    """Say that a key is needed, and nothing about the one that came."""
    return UnauthenticatedError("a valid API key is needed")
