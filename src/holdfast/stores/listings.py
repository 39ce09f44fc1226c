"""What listings of an object store come to: blobs in order, what they take, what nobody needs.

A folder is listed whole, because not every object store lists in order: of a hundred million blobs
that is 400,000 names at a time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.digest import BlobRef
from holdfast.core.store import Usage
from holdfast.stores import naming
from holdfast.stores.footer import content_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from holdfast.core.digest import Digest
    from holdfast.stores.remote import Listed, Remote

KEPT_DIGITS = 16  # of an upload's name: 8 bytes each, however many there are


class Stale(NamedTuple):
    """Objects that nobody needs."""

    name: str
    """Of the upload, or of one object."""
    names: tuple[str, ...]
    size_bytes: int


def folders(remote: Remote) -> list[str]:
    """The folders that have blobs, in order.

    Raises:
        UnavailableError: no answer.
    """
    found = {*remote.folders(naming.BLOBS), *remote.folders(naming.LARGE)}
    return sorted(each for each in found if naming.FOLDER.fullmatch(each))


def digests(remote: Remote, folder: str) -> list[Digest]:
    """What the names in one folder say, in order, whatever lies there.

    Raises:
        UnavailableError: no answer.
    """
    heads = (naming.head_of(each.name) for each in remote.names(f"{naming.LARGE}/{folder}"))
    ones = (naming.digest_of(each.name) for each in remote.names(f"{naming.BLOBS}/{folder}"))
    return sorted({*(each.digest for each in heads if each), *(each for each in ones if each)})


def scan(remote: Remote, after: Digest | None) -> Iterator[BlobRef]:
    """Yield every blob in digest order, from the first behind `after`; one folder at a time.

    Raises:
        UnavailableError: no answer.
    """
    first = after.hex()[:2] if after else ""
    for folder in folders(remote):
        if folder >= first:
            for ref in _refs(remote, folder):
                if after is None or ref.digest > after:
                    yield ref


def usage(remote: Remote) -> Usage:
    """Count what is in the object store, by the sizes of all objects.

    Raises:
        UnavailableError: no answer.
    """
    named = _Uploads()
    files = file_bytes = temporary = temporary_bytes = 0
    for listed in _all(remote, naming.LARGE):
        for digest, group in groupby(map(_Named, listed), lambda each: each.digest):
            heads = list(group)
            files += digest is not None
            file_bytes += sum(each.listed.size_bytes for each in heads)
            named.add(each.upload for each in heads)
    for listed in _all(remote, naming.BLOBS):
        files += sum(naming.digest_of(each.name) is not None for each in listed)
        file_bytes += sum(each.size_bytes for each in listed)
    for upload, objects in _uploads(remote):
        size_bytes = sum(each.size_bytes for each in objects)
        if upload in named:
            file_bytes += size_bytes
        else:
            temporary += 1
            temporary_bytes += size_bytes
    for listed in _all(remote, naming.GONE):
        temporary += len(listed)
        temporary_bytes += sum(each.size_bytes for each in listed)
    return Usage(
        files=files,
        file_bytes=file_bytes,
        temporary_files=temporary,
        temporary_bytes=temporary_bytes,
    )


def stale(remote: Remote, before_us: int, in_use: Collection[str]) -> Iterator[Stale]:
    """Yield uploads that no head names, and what was kept for readers, older than a time.

    `in_use` is what this process needs, looked at before this is called: what began later is
    younger, and what ended before is named.

    Raises:
        UnavailableError: no answer.
    """
    named = _Uploads()
    for listed in _all(remote, naming.LARGE):
        named.add(_Named(each).upload for each in listed)
    for upload, objects in _uploads(remote):
        newest_us = max(each.modified_us for each in objects)
        if newest_us < before_us and upload not in in_use and upload not in named:
            names = tuple(each.name for each in objects)
            yield Stale(upload, names, sum(each.size_bytes for each in objects))
    for each in chain.from_iterable(_all(remote, naming.GONE)):
        token = each.name.rpartition("/")[2]
        if each.modified_us < before_us and token not in in_use:
            yield Stale(token, (each.name,), each.size_bytes)


class _Named:
    """A head in a listing; empty where the name is none."""

    def __init__(self, listed: Listed) -> None:
        found = naming.head_of(listed.name)
        self.listed = listed
        self.digest = found.digest if found else None
        self.upload = found.upload if found else ""


class _Uploads:
    """The beginnings of the names of uploads; two that begin alike are taken for one."""

    def __init__(self) -> None:
        self._sorted = array("Q")

    def add(self, uploads: Iterable[str]) -> None:
        """Take more of them."""
        self._sorted.extend(int(each[:KEPT_DIGITS], 16) for each in uploads if each)
        self._is_sorted = False

    def __contains__(self, upload: str) -> bool:
        if not self._is_sorted:
            self._sorted = array("Q", sorted(self._sorted))
            self._is_sorted = True
        wanted = int(upload[:KEPT_DIGITS], 16)
        at = bisect_left(self._sorted, wanted)
        return at < len(self._sorted) and self._sorted[at] == wanted

    _is_sorted = True


def _refs(remote: Remote, folder: str) -> list[BlobRef]:
    """The blobs of one folder in order; of several sizes that a digest seems to have, one."""
    sizes: dict[Digest, int] = {}
    for listed in remote.names(f"{naming.LARGE}/{folder}"):
        head = naming.head_of(listed.name)
        if head is not None:
            sizes[head.digest] = head.size_bytes
    for listed in remote.names(f"{naming.BLOBS}/{folder}"):
        digest, size_bytes = naming.digest_of(listed.name), content_bytes(listed.size_bytes)
        if digest is not None and size_bytes is not None:
            sizes.setdefault(digest, size_bytes)
    return [BlobRef(*each) for each in sorted(sizes.items())]


def _all(remote: Remote, top: str) -> Iterator[list[Listed]]:
    """Yield the listing of each folder."""
    for folder in remote.folders(top):
        yield remote.names(f"{top}/{folder}")


def _uploads(remote: Remote) -> Iterator[tuple[str, list[Listed]]]:
    """Yield the parts of each upload."""
    for listed in _all(remote, naming.PARTS):
        for upload, group in groupby(listed, lambda each: naming.upload_of(each.name)):
            if upload is not None:
                yield upload, list(group)
