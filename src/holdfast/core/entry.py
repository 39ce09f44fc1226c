"""What a name points to, as every face shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from holdfast.core.digest import BlobRef, Digest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(NamedTuple):
    """One name and the blob that it points to; times are microseconds since 1970 UTC."""

    bucket: str
    key: str
    digest: Digest
    size_bytes: int
    content_type: str
    created_us: int
    modified_us: int
    version: int = 0
    """Counts replacements of this name, from 0."""
    metadata: Mapping[str, str] = MappingProxyType({})
    expires_us: int = 0
    """When the name goes by itself; 0: never."""

    @property
    def ref(self) -> BlobRef:
        """The blob."""
        return BlobRef(self.digest, self.size_bytes)

    @property
    def etag(self) -> str:
        """The strong entity tag: the digest's hex in quotes."""
        return f'"{self.digest.hex()}"'

    @property
    def created_at(self) -> datetime:
        """When the name first appeared."""
        return moment(self.created_us)

    @property
    def modified_at(self) -> datetime:
        """When the name last changed what it points to."""
        return moment(self.modified_us)

    @property
    def expires_at(self) -> datetime | None:
        """When the name goes by itself."""
        return moment(self.expires_us) if self.expires_us else None


class Grave(NamedTuple):
    """A deleted name: what it pointed to, and until when that can be brought back."""

    entry: Entry
    deleted_us: int
    until_us: int

    @property
    def deleted_at(self) -> datetime:
        """When it was deleted."""
        return moment(self.deleted_us)

    @property
    def until_at(self) -> datetime:
        """When it goes for good."""
        return moment(self.until_us)


def moment(at_us: int) -> datetime:
    """A time in microseconds since 1970 UTC."""
    return EPOCH + timedelta(microseconds=at_us)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in byte order of the keys."""

    entries: list[Entry]
    prefixes: list[str]
    """Common beginnings up to and with the delimiter; each stands for the keys behind it."""
    next: str | None
    """The cursor of the next page; None at the end."""


@dataclass(frozen=True, slots=True)
class VersionPage:
    """A part of the versions of a name, from the newest on, which is what it points to now."""

    entries: list[Entry]
    next: str | None


@dataclass(frozen=True, slots=True)
class GravePage:
    """A part of the deleted names that can be restored, in byte order of the keys."""

    graves: list[Grave]
    next: str | None


@dataclass(frozen=True, slots=True)
class HashPage:
    """A part of the list of all digests, in digest order."""

    digests: list[Digest]
    next: str | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How much is stored, over all buckets."""

    entries: int
    entry_bytes: int
    """What the entries would need if no bytes were shared."""
    revision: int
    away: str = ""
    """Why blobs that lie elsewhere are not available now; empty where all are."""
