"""What may be stored under which conditions: the policy of a bucket, and who owns it.

A bucket of an owner is named `owner~bucket`; one without a tilde belongs to nobody but whoever runs
the store. A policy holds from the next change of a name on; nothing that is stored goes because of
it, but what versions and deleted names wait for.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.rates import Rates

OWNER_MARK = "~"
NOBODY = ""
"""The owner of buckets whose names have no owner in them."""

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
OWNER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
TYPE_PATTERN = re.compile(r"(\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*))")


class Mismatch(StrEnum):
    """What becomes of an upload whose declared type is not what its first bytes show."""

    ACCEPT = "accept"
    CORRECT = "correct"
    REJECT = "reject"


def _check_whole(name: str, value: int | None, least: int, most: int = limits.WHOLE_MAX) -> None:
    if value is not None and not least <= value <= most:
        raise InvalidError(name, value, f"{least} to {most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for one bucket. None, and no types, leave it to the store.

    Sizes are bytes, times are seconds.
    """

    public: bool = False
    """Anybody may read its blobs by their keys."""
    quota_bytes: int | None = None
    """Of its entries and their versions together."""
    quota_entries: int | None = None
    blob_bytes_max: int | None = None
    types: tuple[str, ...] = ()
    """Content types that are taken, such as `image/png` or `image/*`."""
    mismatch: Mismatch = Mismatch.ACCEPT
    versions: int = 0
    """Replaced versions of a name that are kept, the newest."""
    undelete_s: int | None = None
    """For how long a deleted name can be restored, with its versions."""
    expire_s: int | None = None
    """After how long a name goes by itself, unless its upload says when."""

    def __post_init__(self) -> None:
        """Check every member.

        Raises:
            InvalidError: one is out of its bounds.
        """
        for name in ("quota_bytes", "quota_entries", "blob_bytes_max"):
            _check_whole(name, getattr(self, name), 0)
        _check_whole("undelete_s", self.undelete_s, 0, limits.EXPIRE_S_MAX)
        _check_whole("expire_s", self.expire_s, 1, limits.EXPIRE_S_MAX)
        if not 0 <= self.versions <= limits.VERSIONS_MAX:
            raise InvalidError("versions", self.versions, f"0 to {limits.VERSIONS_MAX}")
        if len(self.types) > limits.POLICY_TYPES_MAX:
            raise InvalidError("types", len(self.types), f"at most {limits.POLICY_TYPES_MAX}")
        for pattern in self.types:
            if TYPE_PATTERN.fullmatch(pattern) is None:
                raise InvalidError("types", pattern[:100], "image/png, image/* and the like")


NO_POLICY = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who has buckets, and how much may be in all of them together. None is no limit."""

    name: str
    created_us: int = 0
    quota_bytes: int | None = None
    quota_entries: int | None = None
    is_suspended: bool = False
    """None of the keys opens anything; what is stored stays."""
    requests_s: float | None = None
    """Of all keys together; None leaves it to the server, 0 is no limit."""
    bytes_s: float | None = None
    burst_s: float | None = None

    def __post_init__(self) -> None:
        """Check every member.

        Raises:
            InvalidError: one is out of its bounds.
        """
        for name in ("quota_bytes", "quota_entries"):
            _check_whole(name, getattr(self, name), 0)
        self.rates.check()

    @property
    def rates(self) -> Rates:
        """How fast all keys together may be used."""
        return Rates(self.requests_s, self.bytes_s, self.burst_s)


def check_owner(name: str) -> str:
    """Accept the name of an owner.

    Raises:
        InvalidError: it has other characters or is too long.
    """
    if OWNER.fullmatch(name) is None:
        allowed = f"1 to {limits.BUCKET_BYTES_MAX} of a-z 0-9 - _ ., first a letter or digit"
        raise InvalidError("owner", name[:100], allowed)
    return name


@lru_cache(maxsize=4096)
def check_bucket(name: str) -> str:
    """Accept a bucket's name, with or without its owner.

    Raises:
        InvalidError: it has other characters or is too long.
    """
    owner, mark, bucket = name.rpartition(OWNER_MARK)
    if BUCKET.fullmatch(bucket) is None or (mark and OWNER.fullmatch(owner) is None):
        allowed = f"1 to {limits.BUCKET_BYTES_MAX} of a-z 0-9 - _ ., first a letter or digit"
        raise InvalidError("bucket", name[:150], allowed)
    return name


def owner_of(bucket: str) -> str:
    """Whose a bucket is.

    >>> owner_of("alice~photos"), owner_of("photos")
    ('alice', '')
    """
    return bucket.rpartition(OWNER_MARK)[0]


def bucket_of(owner: str, bucket: str) -> str:
    """The whole name of an owner's bucket.

    >>> bucket_of("alice", "photos"), bucket_of("", "photos")
    ('alice~photos', 'photos')
    """
    return f"{owner}{OWNER_MARK}{bucket}" if owner else bucket
