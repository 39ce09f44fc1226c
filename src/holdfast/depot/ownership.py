"""Whose an object store is: its object HOLDFAST names the folder that it belongs to.

    <url>/HOLDFAST   {"format": 1, "id": "<that of the folder>"}; behind it "/cold" for old ones

It is looked at when the folder is opened. An object store that does not answer then is *away*: the
folder is opened without it, and nothing is asked of it, neither to write nor to read, list or
remove, before it has answered and was found to be the folder's own. For one that is another's would
say of every blob that there is none, which is not the same as that nobody knows. Who wants
something there while it is away asks for HOLDFAST first, one at a time and no more often than
`limits.OBJECT_AWAY_S`; all others are refused at once. What answers and is not ours is never used.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, NoReturn

import msgspec

from holdfast.core import limits
from holdfast.core.errors import (
    BlobError,
    ConflictError,
    CorruptError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.events import event
from holdfast.stores.naming import MARKER

if TYPE_CHECKING:
    from holdfast.core.seams import Clock
    from holdfast.stores.remote import Remote

FORMAT = 1
MARKER_BYTES_MAX = 4096


class Claimed(msgspec.Struct, frozen=True):
    """The content of the marker in the object store."""

    format: int
    id: str


class Ownership:
    """That an object store is the folder's own, found out once; `_lock` is held by who looks."""

    def __init__(self, remote: Remote, own: str, what: str, clock: Clock) -> None:
        """Look for the marker of `own` behind `remote`; `what` blobs lie there, for messages."""
        self.what = what
        self._remote = remote.hasty(limits.OBJECT_LOOK_S)
        self._own = own
        self._clock = clock
        self._lock = threading.Lock()
        self._is_ours = False
        self._again_s = 0.0
        self._why = f"{remote.place}: it has not answered yet"
        self._told: bool | None = None
        """Which of the two was told last: that it is another's, or that it does not answer."""

    @property
    def why(self) -> str:
        """Why nothing is asked of it; empty once it was found to be ours."""
        return "" if self._is_ours else self._why

    def open(self, *, may_be_free: bool = False) -> None:
        """Look at it as the folder is opened: it is ours, or does not answer.

        It `may_be_free`, too, for who writes nothing there.

        Raises:
            ConflictError, CorruptError, UnsupportedError: it answers, and belongs to another.
            UnavailableError: it answers, and has no marker any more.
        """
        try:
            data = self._remote.whole(MARKER, MARKER_BYTES_MAX)
        except UnavailableError as error:
            self._put_off(error, is_wrong=False)
            return
        if data is not None or not may_be_free:
            check_marker(self._remote.place, data, self._own)
        self._is_ours = True

    def check(self) -> None:
        """Return if it is ours; before it was found to be, look, unless that was done just now.

        Raises:
            UnavailableError: it does not answer, or it is not ours.
        """
        if self._is_ours:
            return
        if not self._lock.acquire(blocking=False):
            self._refuse()
        try:
            if not self._is_ours:
                self._look()
        finally:
            self._lock.release()

    def _look(self) -> None:
        if self._clock.monotonic_s() < self._again_s:
            self._refuse()
        try:
            data = self._remote.whole(MARKER, MARKER_BYTES_MAX)
        except BlobError as error:
            self._put_off(error, is_wrong=False)
            self._refuse(error)
        try:
            check_marker(self._remote.place, data, self._own)
        except BlobError as error:
            self._put_off(error, is_wrong=True)
            self._refuse(error)
        self._is_ours = True
        event(logging.INFO, "objects.back", url=self._remote.place)

    def _put_off(self, error: BlobError, *, is_wrong: bool) -> None:
        """Remember why, and tell it unless that is known."""
        self._again_s = self._clock.monotonic_s() + limits.OBJECT_AWAY_S
        self._why = error.message
        if self._told == is_wrong:
            return
        self._told = is_wrong
        if is_wrong:
            event(logging.ERROR, "objects.refused", url=self._remote.place, error=error.message)
        else:
            event(logging.WARNING, "objects.away", url=self._remote.place, error=error.message)

    def _refuse(self, error: BlobError | None = None) -> NoReturn:
        raise UnavailableError(self._why, limits.OBJECT_AWAY_S) from error


def claim(remote: Remote, own: str) -> None:
    """See that an object store is ours, or make it so; a lost answer shows as ours.

    Raises:
        ConflictError, CorruptError, UnsupportedError: it belongs to another.
        UnavailableError: no answer.
    """
    data = remote.whole(MARKER, MARKER_BYTES_MAX)
    if data is None:
        remote.create(MARKER, msgspec.json.encode(Claimed(FORMAT, own)) + b"\n")
        data = remote.whole(MARKER, MARKER_BYTES_MAX)
    check_marker(remote.place, data, own)


def check_marker(place: str, data: bytes | None, own: str) -> None:
    """See that the marker of an object store says that it is ours.

    Raises:
        UnavailableError: there is none: a folder that was one is not mounted any more.
        CorruptError, UnsupportedError: it cannot be read.
        ConflictError: it is that of another.
    """
    if data is None:
        raise UnavailableError(f"{place}: the object {MARKER} is gone: is it mounted?")
    try:
        found = msgspec.json.decode(data, type=Claimed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError(f"{place}: the object {MARKER} is damaged") from error
    if found.format != FORMAT:
        raise UnsupportedError(f"{place} is a store itself, or a newer holdfast uses it")
    if found.id != own:
        raise ConflictError(f"{place} belongs to another store ({found.id})")


def check_there(remote: Remote) -> None:
    """See that an object store still has its marker.

    Raises:
        UnavailableError: a folder that was one is not mounted any more, or there is no answer.
    """
    if remote.look(MARKER) is None:
        raise UnavailableError(f"{remote.place}: the object {MARKER} is gone: is it mounted?")
