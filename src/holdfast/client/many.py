"""Many things in one request, seen from the client: what to ask, and outcomes in order. No I/O.

A `Retrieval` asks for blobs and goes on behind the last whole one when the connection broke.
"""

from collections.abc import Iterator, Sequence

from holdfast import wire
from holdfast.client.calls import Answer, Call, verify
from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import BlobError, InvalidError, UnavailableError, bare
from holdfast.core.many import outcome
from holdfast.wire import Found, Line, Wanted

AT_ONCE = 8  # puts of one call on their way; they share syncs of the server's disk
LINE_BYTES_MAX = 256 * limits.KIB
HASHES = "/blobs"


def check_key(key: str) -> str:
    """Accept a key that can be spelled; the server knows the other rules."""
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidError("key", ascii(key[:100]), "text without lone surrogates") from None
    if not 0 < size_bytes <= limits.KEY_BYTES_MAX:
        allowed = f"1 to {limits.KEY_BYTES_MAX} bytes of UTF-8"
        raise InvalidError("key", f"{size_bytes} bytes", allowed)
    return key


def ask(target: str, verb: str, names: Sequence[str]) -> Call[list[Found]]:
    """Describe or delete up to `limits.BATCH_REFS_MAX` things.

    Where it is repeated, what was deleted before counts as deleted.
    """

    def read(answer: Answer) -> list[Found]:
        lines = [line for line, _ in Lines().feed(answer.body)]
        if [line.name for line in lines] != list(names):
            raise strange()
        return [line.found or answer.repeated for line in lines]

    return Call("POST", target, read, body=wire.wanted_json(Wanted(verb, list(names))))


def missing(digests: Sequence[Digest]) -> Call[list[Digest]]:
    """Ask which of up to `limits.BATCH_REFS_MAX` blobs nothing holds."""
    return Call(
        "POST",
        HASHES + "/missing",
        lambda answer: wire.parse_peer_hashes(answer.body),
        body=wire.hashes_json(digests),
    )


class Lines:
    """Takes an answer apart as it arrives."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._line: Line | None = None

    def feed(self, chunk: bytes) -> Iterator[tuple[Line, bytes]]:
        """Take the next bytes; yield the things that are whole now.

        Raises:
            UnavailableError: that is no answer of ours.
        """
        self._held += chunk
        while (line := self._line or self._next()) is not None:
            self._line = line
            if len(self._held) < line.body_bytes:
                return
            with memoryview(self._held) as view:
                body = bytes(view[: line.body_bytes])
            del self._held[: line.body_bytes]
            self._line = None
            yield line, body

    def _next(self) -> Line | None:
        end = self._held.find(b"\n")
        if max(end, len(self._held) if end < 0 else 0) > LINE_BYTES_MAX:
            raise UnavailableError("the server's answer is not ours: no line")
        if end < 0:
            return None
        head = bytes(self._held[:end])
        del self._held[: end + 1]
        return wire.parse_line(head)


class Retrieval:
    """Blobs on their way to one caller; `left` says which were not decided yet."""

    def __init__(self, target: str, names: Sequence[str], retries: int) -> None:
        self._target = target
        self._names = names
        self._retries = retries
        self._failures = 0
        self._decided = 0
        self._lines = Lines()

    def is_done(self) -> bool:
        """Every blob has its outcome."""
        return self._decided == len(self._names)

    def call(self) -> Call[None]:
        """Ask for what is left."""
        self._lines = Lines()
        wanted = Wanted(wire.GET, list(self._names[self._decided :]))
        return Call("POST", self._target, lambda _: None, body=wire.wanted_json(wanted))

    def feed(self, chunk: bytes) -> Iterator[bytes | BlobError]:
        """Take the next bytes of the answer; yield what they decide."""
        try:
            for line, body in self._lines.feed(chunk):
                if self.is_done():
                    return
                name = self._names[self._decided]
                found = _outcome(name, line, body)
                self._decided += 1
                self._failures = 0
                yield found
        except UnavailableError as error:
            yield from self.refused(error)

    def broke(self, error: BlobError) -> Iterator[bytes | BlobError]:
        """Tell that the answer ended too early; yield what that decides."""
        self._failures += 1
        if self._failures > self._retries:
            self._failures = 0
            self._decided += 1
            yield bare(error)

    def refused(self, error: BlobError) -> Iterator[BlobError]:
        """Tell that there is no answer; that decides all that is left."""
        while not self.is_done():
            self._decided += 1
            yield bare(error)


def as_entry(found: Found) -> Entry | BlobError:
    """Expect an entry."""
    return found if isinstance(found, Entry | BlobError) else strange()


def as_size(found: Found) -> int | BlobError:
    """Expect a blob."""
    if isinstance(found, BlobRef):
        return found.size_bytes
    return found if isinstance(found, BlobError) else strange()


def as_deleted(found: Found) -> bool | BlobError:
    """Expect whether something was deleted."""
    return found if isinstance(found, bool | BlobError) else strange()


def strange() -> UnavailableError:
    """Say that a server answered something else."""
    return UnavailableError("the server's answer is not ours: it is about something else")


def _outcome(name: str, line: Line, body: bytes) -> bytes | BlobError:
    """What a line means for the blob that was asked for by `name`.

    Raises:
        UnavailableError: it is about another one.
    """
    found = line.found
    if line.name != name:
        raise strange()
    if isinstance(found, BlobError):
        return found
    if isinstance(found, bool) or (isinstance(found, BlobRef) and str(found.digest) != name):
        raise strange()
    refused = outcome(verify, body, found.digest)
    return body if refused is None else refused
