"""Removing blobs from an object store, while somebody may read them.

What names the content goes first, and the content then. A reader goes on: one object that he reads
is copied aside before, parts stay where they are, and what was kept goes when the last reader has
closed it. A sweep takes what a crash leaves of that.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from holdfast.core.errors import BlobError
from holdfast.stores import naming

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.digest import Digest
    from holdfast.stores.lookup import Found
    from holdfast.stores.pledges import Doubts
    from holdfast.stores.remote import Remote
    from holdfast.stores.windows import Handle, Handles


class Removal:
    """Takes blobs away; the caller holds their digests."""

    def __init__(
        self,
        remote: Remote,
        handles: Handles,
        doubts: Doubts,
        in_use: set[str],
        token: Callable[[], str],
    ) -> None:
        """Share the parts of a store; what is kept for readers is added to `in_use`."""
        self._remote = remote
        self._handles = handles
        self._doubts = doubts
        self._in_use = in_use
        self._token = token

    def withdraw(self, digest: Digest, found: Found) -> None:
        """Remove a blob from where it was found; when this returns, nobody opens it any more.

        Raises:
            UnavailableError: no answer; it may be gone all the same, or be on its way out.
        """
        self._doubts.check_room()
        reader = self._handles.drop(digest)
        if found.is_one:
            name = naming.blob(digest)
            if reader is not None and reader.name == name:
                self._set_aside(reader)
            self._delete(digest, name)
        self.withdraw_heads(found.heads, reader)

    def withdraw_heads(self, heads: Sequence[naming.Head], reader: Handle | None) -> None:
        """Remove heads, then the parts that they named, unless somebody reads them.

        Raises:
            UnavailableError: no answer; as above.
        """
        for each in heads:
            self._remote.delete(each.name)
        for each in heads:
            leave = partial(self._remove_parts, each.upload)
            self._in_use.add(each.upload)
            is_read = reader is not None and reader.described.upload == each.upload
            if reader is None or not is_read or not self._handles.keep(reader, leave):
                leave()

    def _delete(self, digest: Digest, name: str) -> None:
        lost: list[BlobError] = []
        try:
            self._remote.delete(name, lost)
        finally:
            if lost:
                self._doubts.add(digest)

    def _set_aside(self, reader: Handle) -> None:
        """Copy an object to where its readers go on."""
        token = self._token()
        self._in_use.add(token)
        is_there = False
        try:
            is_there = self._remote.copy(reader.name, naming.gone(token))
        finally:
            if not is_there:
                self._in_use.discard(token)  # what comes of it all the same is swept
        if not is_there:
            return
        reader.name = naming.gone(token)
        leave = partial(self._remove_aside, token)
        if not self._handles.keep(reader, leave):
            leave()

    def _remove_parts(self, upload: str) -> None:
        with suppress(BlobError):  # else a sweep does it
            for each in self._remote.names(naming.parts(upload)):
                self._remote.delete(each.name)
        self._in_use.discard(upload)

    def _remove_aside(self, token: str) -> None:
        with suppress(BlobError):
            self._remote.delete(naming.gone(token))
        self._in_use.discard(token)
