"""Requests to an object store: tried again, within a time, and its errors in our words.

The client below (obstore) is told not to try again by itself, so that every lost answer is seen
here. A request that reads, or that writes what nobody else writes otherwise, is sent again until it
is answered, with growing pauses, at most `limits.OBJECT_TRIES_MAX` times and not behind
`limits.OBJECT_WAIT_S`. An answer that was lost leaves open whether, and when, the request had its
effect. For `create` that shows as a name that is there already, perhaps by ourselves: the caller
looks at what is there. For `delete` it is told, because a late one would remove what was stored
under that name since.

An error names the place and the kind of failure, never the text of the client, in which addresses
with credentials may stand.
"""

from __future__ import annotations

import copy
import errno
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import obstore
from obstore import exceptions

from holdfast.core import limits
from holdfast.core.errors import FullError, UnavailableError, UnsupportedError
from holdfast.core.rates import doubled

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ObjectStore as Client

    from holdfast.core.errors import BlobError
    from holdfast.core.seams import Buffer, Clock, Entropy

LIST_PAGE = 1000
STATUS = re.compile(r"\b([45][0-9]{2}) [A-Z][A-Za-z]+|status(?:_code)?: ([45][0-9]{2})\b")
CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
DEBUG = "Debug source"  # behind which the client says more of it
AGAIN = frozenset({408, 409, 425, 429})
"""Refusals that do not stay."""
FULL = re.compile(r"No space left|StorageFull|QuotaExceeded|EntityTooLarge")
OUTSIDE = re.compile(r"Invalid range|Requested range was invalid|Wanted range starting at")
LOST = re.compile(r"HTTP error|connection")
SLOW = "kind: Timeout"
UNSENT = "kind: Connect"

THERE = (FileExistsError, exceptions.AlreadyExistsError, exceptions.PreconditionError)
REFUSED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)

T = TypeVar("T")


def _is_durable(name: str) -> None:
    """An answer says that it is."""


def _may_go() -> None:
    """Nothing stands in the way of a request."""


class Listed(NamedTuple):
    """One object in a listing."""

    name: str
    size_bytes: int
    modified_us: int
    """By the clock of the object store."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """What an error of the client means."""

    error: BlobError
    helps_again: bool
    may_come: bool = False
    """Nobody answered, so the request may be on its way."""


class Remote:
    """An object store, or what lies in one behind a prefix; safe from any thread."""

    def __init__(
        self,
        client: Client,
        place: str,
        clock: Clock,
        entropy: Entropy,
        pause: Callable[[float], object] = time.sleep,
        settle: Callable[[str], object] = _is_durable,
    ) -> None:
        """Send requests by `client`; `place` is what errors call it.

        `settle` makes durable what happened to a name, where an answer alone does not say so.
        """
        self._client = client
        self.place = place
        """What errors call it."""
        self._clock = clock
        self._entropy = entropy
        self._pause = pause
        self._settle = settle
        self.check: Callable[[], None] = _may_go
        """Is asked before each request, and raises what is raised in its place."""
        self.wait_s: float = limits.OBJECT_WAIT_S
        """For all tries of one request, less what the last one takes."""
        self.client_within: Callable[[float], Client] = lambda _: client
        """Makes a client that waits no longer than that for one answer."""

    def behind(self, check: Callable[[], None]) -> Remote:
        """Make the same again, of which nothing is asked unless `check` returns, each time."""
        other = copy.copy(self)
        other.check = check
        return other

    def hasty(self, wait_s: float) -> Remote:
        """Make the same again, for small requests: it waits no longer than that, or twice that."""
        client = self.client_within(wait_s)
        other = Remote(client, self.place, self._clock, self._entropy, self._pause, self._settle)
        other.wait_s = wait_s
        return other

    def read(self, name: str, offset: int, size_bytes: int) -> memoryview:
        """Read exactly a part of an object.

        Raises:
            FileNotFoundError: there is no such object, or it ends before.
            UnavailableError: no answer.
        """
        assert size_bytes > 0

        def call() -> memoryview:
            found = obstore.get_range(self._client, name, start=offset, length=size_bytes)
            return memoryview(found)

        try:
            data = self._send("read an object", call)
        except EOFError:
            raise FileNotFoundError(name) from None
        if len(data) != size_bytes:
            raise FileNotFoundError(name)
        return data

    def tail(self, name: str, size_bytes: int) -> tuple[int, bytes] | None:
        """Read the size of an object and its last bytes; None when there is none.

        Raises:
            UnavailableError: no answer.
        """
        try:
            return self._send("read an object", lambda: self._tail(name, size_bytes))
        except EOFError:  # it is empty
            return 0, b""
        except FileNotFoundError:
            return None

    def whole(self, name: str, bytes_max: int) -> bytes | None:
        """Read an object, or its first `bytes_max` bytes and one more; None when there is none.

        Raises:
            UnavailableError: no answer.
        """

        def call() -> bytes:
            found = obstore.get(self._client, name, options={"range": (0, bytes_max + 1)})
            return bytes(found.bytes())

        try:
            return self._send("read an object", call)
        except EOFError:
            return b""
        except FileNotFoundError:
            return None

    def look(self, name: str) -> Listed | None:
        """Look at an object without reading it; None when there is none.

        Raises:
            UnavailableError: no answer.
        """
        try:
            return self._send(
                "look at an object", lambda: _listed(obstore.head(self._client, name))
            )
        except FileNotFoundError:
            return None

    def create(self, name: str, data: Buffer) -> bool:
        """Store an object under a name that nothing has; False when something has it.

        That may be this very object, of which an answer was lost. Some object stores know no
        conditions, or pay no heed to them: look first where that matters.

        Raises:
            FullError, UnavailableError: it may be stored all the same, or come to be.
        """

        def call() -> None:
            obstore.put(self._client, name, data, mode="create", use_multipart=False)
            self._settle_new(name)

        try:
            self._send("store an object", call)
        except FileExistsError:
            self._send("store an object", lambda: self._settle(name))
            return False
        except UnsupportedError:  # it knows no conditions
            if self.look(name) is not None:
                return False
            self.write(name, data)
        return True

    def write(self, name: str, data: Buffer) -> None:
        """Store an object, whatever has that name.

        Raises:
            FullError, UnavailableError: it may be stored all the same, or come to be.
        """

        def call() -> None:
            obstore.put(self._client, name, data, use_multipart=False)
            self._settle_new(name)

        self._send("store an object", call)

    def copy(self, name: str, other: str) -> bool:
        """Store the same object under another name; False when there is none.

        Raises:
            FullError, UnavailableError: it may be stored all the same.
        """

        def call() -> None:
            obstore.copy(self._client, name, other)
            self._settle(other)

        try:
            self._send("copy an object", call)
        except FileNotFoundError:
            return False
        return True

    def delete(self, name: str, lost: list[BlobError] | None = None) -> None:
        """Remove an object; a missing one is no error.

        Answers that were lost are added to `lost`: such a request may be on its way still.

        Raises:
            UnavailableError: no answer; it may be removed all the same, or come to be.
        """

        def call() -> None:
            obstore.delete(self._client, name)
            self._settle(name)

        with suppress(FileNotFoundError):
            self._send("remove an object", call, lost)

    def names(self, folder: str) -> list[Listed]:
        """List all objects in a folder and its folders, in the order of their names.

        Raises:
            UnavailableError: no answer.
        """

        def call() -> list[Listed]:
            pages = obstore.list(self._client, f"{folder}/", chunk_size=LIST_PAGE)
            return sorted(_listed(each) for page in pages for each in page)

        try:
            return self._send("list objects", call)
        except FileNotFoundError:
            return []

    def folders(self, folder: str) -> list[str]:
        """List the folders in a folder by their own names, in order.

        Raises:
            UnavailableError: no answer.
        """

        def call() -> list[str]:
            found = obstore.list_with_delimiter(self._client, f"{folder}/")
            return sorted(each.rsplit("/", 1)[-1] for each in found["common_prefixes"])

        try:
            return self._send("list objects", call)
        except FileNotFoundError:
            return []

    def _settle_new(self, name: str) -> None:
        """Take back what could not be made durable: another try must store all of it again."""
        try:
            self._settle(name)
        except OSError:
            with suppress(exceptions.BaseError, OSError):
                obstore.delete(self._client, name)
            raise

    def _tail(self, name: str, size_bytes: int) -> tuple[int, bytes]:
        try:
            found = obstore.get(self._client, name, options={"range": {"suffix": size_bytes}})
        except (exceptions.NotSupportedError, NotImplementedError):  # Azure has no such ranges
            total = obstore.head(self._client, name)["size"]
            if total == 0:
                raise EOFError from None
            start = max(0, total - size_bytes)
            return total, bytes(obstore.get_range(self._client, name, start=start, end=total))
        total = found.meta["size"]
        return total, bytes(found.bytes())

    def _send(self, what: str, call: Callable[[], T], lost: list[BlobError] | None = None) -> T:
        """Send a request until it is answered; answers that were lost are added to `lost`.

        Raises:
            FileNotFoundError, FileExistsError, EOFError: as the object store says.
            FullError, UnavailableError, UnsupportedError: it refuses, or does not answer.
        """
        self.check()
        end_s = self._clock.monotonic_s() + self.wait_s
        tries = 0
        while True:
            tries += 1
            try:
                return call()
            except (exceptions.BaseError, OSError, NotImplementedError) as error:
                failure = self._judge(what, error)
            if lost is not None and failure.may_come:
                lost.append(failure.error)
            pause_s = self._pause_s(tries)
            is_over = self._clock.monotonic_s() + pause_s > end_s
            if not failure.helps_again or is_over or tries == limits.OBJECT_TRIES_MAX:
                raise failure.error
            self._pause(pause_s)

    def _pause_s(self, tries: int) -> float:
        """Twice as long each time, and by chance up to half of it less, so that not all return."""
        longest_s = doubled(limits.OBJECT_RETRY_S, tries - 1, limits.OBJECT_RETRY_S_MAX)
        return longest_s * (1 - self._entropy.random_bytes(1)[0] / 512)

    def _judge(self, what: str, error: Exception) -> _Failure:
        """Say in our words what the client said: the one place that knows both.

        Raises:
            FileNotFoundError, FileExistsError: that is what it said.
            EOFError: there is an object, with no byte where one was asked for.
        """
        if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
            raise FileNotFoundError from None
        if isinstance(error, THERE):
            raise FileExistsError from None
        text, _, detail = str(error).partition(DEBUG)
        reason, status = _reason(error, text, detail)
        if status == 416 or OUTSIDE.search(text):
            raise EOFError from None
        message = f"{self.place}: cannot {what}: {reason}"
        if isinstance(error, exceptions.NotSupportedError | NotImplementedError) or status == 501:
            return _Failure(UnsupportedError(message), helps_again=False)
        if isinstance(error, REFUSED):
            return _Failure(UnavailableError(message), helps_again=False)
        if status == 507 or FULL.search(text) or _errno(error) in {errno.ENOSPC, errno.EDQUOT}:
            full = FullError(f"{self.place}: cannot {what}: it is full")
            return _Failure(full, helps_again=False)
        is_gone = _errno(error) == errno.ENODEV
        stays = is_gone or (400 <= status < 500 and status not in AGAIN)
        may_come = status == 0 and UNSENT not in detail
        return _Failure(UnavailableError(message), helps_again=not stays, may_come=may_come)


def _errno(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _reason(error: Exception, text: str, detail: str) -> tuple[str, int]:
    """Name the kind of a failure, and its HTTP status (0: none), and nothing else of the texts."""
    if isinstance(error, REFUSED):
        return "it refuses the credentials", 403
    if _errno(error) == errno.ENODEV:
        return "it is not mounted", 0
    found = STATUS.search(text)
    code = CODE.search(text)
    if found:
        status = int(found[1] or found[2])
        return f"HTTP {status}" + (f" {code[1]}" if code else ""), status
    if SLOW in detail:
        return "it took too long", 0
    if LOST.search(text):
        return "the connection failed", 0
    return "it failed", 0


def _listed(found: obstore.ObjectMeta) -> Listed:
    modified_us = int(found["last_modified"].timestamp() * 1_000_000)
    return Listed(found["path"], found["size"], modified_us)
