"""Heads of requests: cut out of the bytes of a connection and parsed by httptools (llhttp)."""

from __future__ import annotations

import httptools

from holdfast.core import limits
from holdfast.core.errors import HeadTooLargeError, InvalidError

HEAD_END = b"\r\n\r\n"
BLANKS = b" \t"


class HeadReader:
    """Reads one head after the other; what it read last is in its attributes.

    The parser sees heads only, each up to its empty line, and so errors are found as soon as their
    bytes come. What lies behind a head is the caller's.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._is_whole = False
        self.partial = b""
        """What came of a head that is not whole."""
        self.raw = b""
        """The head as it came."""
        self.verb = b""
        self.url = b""
        self.version = "1.1"
        self.headers: dict[bytes, bytes] = {}
        """Names in lower case; repeated headers are joined by commas."""
        self.stays = True
        """Whether the client wants to keep the connection."""

    def read(self, data: bytes) -> tuple[bool, bytes]:
        """Take the next bytes; say whether a head is whole now, and what lies behind it.

        Raises:
            InvalidError: not HTTP.
            HeadTooLargeError: over `limits.HEAD_BYTES_MAX`.
        """
        overlap = self.partial[-3:]
        end = (overlap + data).find(HEAD_END)
        at = len(data) if end < 0 else end + len(HEAD_END) - len(overlap)
        piece, rest = data[:at], data[at:]
        self.partial += piece
        if len(self.partial) > limits.HEAD_BYTES_MAX:
            raise HeadTooLargeError("head of the request", limits.HEAD_BYTES_MAX)
        self._parse(piece)
        if not self._is_whole:
            return False, rest
        self._is_whole = False
        self.raw, self.partial = self.partial, b""
        return True, rest

    def pass_body(self, body: bytes) -> None:
        """Show the parser a whole body, which is quicker than to begin anew."""
        if b"upgrade" in self.headers:
            self.skip_body()  # it has ended behind the head, whatever followed
        else:
            self._parser.feed_data(body)

    def skip_body(self) -> None:
        """Begin anew behind a body that the parser does not see."""
        self._parser = httptools.HttpRequestParser(self)

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.skip_body()  # we go on in HTTP/1.1 (RFC 9110 section 7.8)
        except httptools.HttpParserError as error:
            raise InvalidError("request", str(error)[:200], "HTTP/1.1 (RFC 9112)") from error

    # httptools

    def on_message_begin(self) -> None:
        """A request line comes."""
        self.url = b""
        self.headers = {}

    def on_url(self, url: bytes) -> None:
        """Gather the request's target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Gather a header; the parser leaves blanks behind a value."""
        name, value = name.lower(), value.rstrip(BLANKS)
        before = self.headers.get(name)
        self.headers[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        """The head is whole; behind it, the parser forgets how the connection goes on."""
        self._is_whole = True
        parser = self._parser
        self.verb = parser.get_method()
        self.version = parser.get_http_version()
        self.stays = parser.should_keep_alive()
