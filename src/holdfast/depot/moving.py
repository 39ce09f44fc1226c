"""What the stores of a move say of it, each in its file HOLDFAST (docs/decisions/014-moving.md).

    {"format":4,"id":"...","move":{"state":"arriving","other":"<id>","path":"/old","at_us":1,
     "format":2}}

A store that takes part has format 4, which older versions do not open, and keeps beside what its
own is. One step of a move is one of these files replaced, so a crash leaves the step before or
behind it, and `find` says with what to go on:

    old          new          then
    -            -            COPY, into a new store that is empty
    -            arriving     COPY
    -            ready        COPY: nobody has seen the new store yet
    left         ready        READ: the old store was the last to say so
    left         reading      READ: blobs that the new store lacks are read from the old one
    left, gone   arrived      DONE
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core.entry import moment
from holdfast.core.errors import ConflictError, NotFoundError
from holdfast.core.marker import MOVING_FORMAT, about_of, check_apart, damaged, write_marker
from holdfast.log.segment import map_disk_error
from holdfast.wire import format_moment

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Clock, Disk
    from holdfast.depot.engine import Limits

MOVE = "move"


class State(StrEnum):
    """What a store is in a move."""

    LEFT = "left"
    """The old one: it was moved, and nobody writes to it any more."""
    ARRIVING = "arriving"
    """The new one, while it is made equal to the old one; nobody has seen it."""
    READY = "ready"
    """It has all names; nobody has seen it."""
    READING = "reading"
    """It is the store; some of its blobs may be in the old one only."""
    ARRIVED = "arrived"
    """It has everything: a store like any other, that knows where it came from."""


class Stage(StrEnum):
    """What is to be done next."""

    COPY = "copying"
    READ = "reading"
    DONE = "moved"


class Mark(msgspec.Struct, frozen=True):
    """The member `move` of the file HOLDFAST."""

    state: State
    other: str
    """The id of the other store."""
    path: str
    """Where it is."""
    at_us: int
    """When this was written."""
    format: int
    """That of the folder, but for the move."""


class End(NamedTuple):
    """A store that takes part in a move: where it is, and how it is opened."""

    folder: Path
    bounds: Limits


class Known(NamedTuple):
    """What a folder says before it is opened; an empty id: it has no store."""

    id: str
    mark: Mark | None

    @property
    def state(self) -> State | None:
        """What it is in a move, if in any."""
        return None if self.mark is None else self.mark.state


def look(folder: Path) -> Known:
    """Read what a folder says.

    Raises:
        CorruptError: the file HOLDFAST is damaged.
        UnavailableError: it cannot be read.
    """
    try:
        about = about_of(folder)
    except NotADirectoryError:
        about = {}  # whoever opens it says so
    except OSError as error:
        raise map_disk_error(error) from error
    found = about.get(MOVE)
    if found is None and about.get("format") == MOVING_FORMAT:
        raise damaged(folder)
    try:
        mark = None if found is None else msgspec.convert(found, Mark)
        return Known(msgspec.convert(about.get("id", ""), str), mark)
    except msgspec.ValidationError as error:
        raise damaged(folder) from error


def check_open(folder: Path) -> None:
    """Refuse to open a store that a move has left, or has not brought whole.

    Raises:
        ConflictError: it is one.
        CorruptError: the file HOLDFAST is damaged.
    """
    mark = look(folder).mark
    if mark is None or mark.state is State.ARRIVED:
        return
    if mark.state is State.LEFT:
        when = format_moment(moment(mark.at_us))
        raise ConflictError(f"{folder} was moved to {mark.path} on {when}: open that instead")
    again = f"`holdfast serve --data {mark.path} --move-to {folder}`"
    if mark.state is State.READING:
        raise ConflictError(f"{folder} still has blobs in {mark.path} only: go on with {again}")
    raise ConflictError(
        f"{folder} is not whole yet: go on with {again}, or remove it to give that up"
    )


def write(folder: Path, state: State, other: tuple[str, Path], disk: Disk, clock: Clock) -> None:
    """Take one step, durably; `other` is the id and the folder of the other store.

    Raises:
        FullError, UnavailableError: the disk refuses; it may or may not have been taken.
    """
    about = about_of(folder)
    before = look(folder).mark
    own = about["format"] if before is None or before.state is State.ARRIVED else before.format
    own_format = msgspec.convert(own, int)
    mark = Mark(state, other[0], str(other[1].absolute()), clock.now_us(), own_format)
    about["format"] = own_format if state is State.ARRIVED else MOVING_FORMAT
    about[MOVE] = msgspec.to_builtins(mark)
    try:
        write_marker(folder, about, disk)
    except OSError as error:
        raise map_disk_error(error) from error


def find(old: Path, new: Path) -> Stage:
    """Say what is to be done next in a move from one folder to another.

    Raises:
        InvalidError: they are one, or one is inside of the other.
        NotFoundError: there is no store to move, or none any more.
        ConflictError: one of them takes part in another move, or went back in time.
        CorruptError: a file HOLDFAST is damaged.
    """
    check_apart(old, new, "move_to")
    left, came = look(old), look(new)
    if not left.id:
        return _without(old, new, came)
    if left.state is State.LEFT:
        return _behind(old, new, left, came)
    check_open(old)
    if came.mark is None or came.state is State.ARRIVED:
        return Stage.COPY
    if came.state is State.LEFT:
        check_open(new)
    if came.mark.other != left.id:
        raise ConflictError(f"{new} belongs to a move from {came.mark.path}")
    if came.state is State.READING:
        raise ConflictError(
            f"{new} was in use already, and {old} does not know that it was left: an older copy"
            " of it was put back"
        )
    return Stage.COPY


def _without(old: Path, new: Path, came: Known) -> Stage:
    """What to do where the old store is not there."""
    is_from_there = came.mark is not None and came.mark.path == str(old.absolute())
    if came.state is State.ARRIVED and is_from_there:
        return Stage.DONE
    if came.state is State.READING:
        assert came.mark is not None
        raise NotFoundError(f"{new} still has blobs in {came.mark.path} only: put that back")
    raise NotFoundError(f"there is no store at {old}")


def _behind(old: Path, new: Path, left: Known, came: Known) -> Stage:
    """What to do where the old store was left."""
    assert left.mark is not None
    if came.state is State.LEFT:
        check_open(new)
    if left.mark.other != came.id:
        raise ConflictError(f"{old} was moved to {left.mark.path}, not to {new}")
    if came.mark is None or came.mark.other != left.id or came.state is State.ARRIVING:
        raise ConflictError(f"{new} does not know that it is {old}: put its file HOLDFAST back")
    return Stage.DONE if came.state is State.ARRIVED else Stage.READ
