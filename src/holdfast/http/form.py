"""multipart/form-data uploads, streamed: the first file of the form is the blob (RFC 7578).

The part with a file name, or named `file` or `blob`, is stored with its own content type. Parts
before and behind it are read and dropped; a second file is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from holdfast.core import limits
from holdfast.core.errors import InvalidError, TooLargeError

if TYPE_CHECKING:
    from holdfast.depot.ingest import Upload
    from holdfast.http.message import Request

FILE_FIELDS = frozenset((b"file", b"blob"))
HEADER_BYTES_MAX = 16 * 1024
AROUND_BYTES_MAX = limits.MIB  # of a form, outside of its file
FORM = b"multipart/form-data"


class Form:
    """Parses one form; `write` and `end` run in one thread at a time."""

    def __init__(self, request: Request, boundary: bytes) -> None:
        self.request = request._replace(
            headers={k: v for k, v in request.headers.items() if k != b"content-type"}
        )
        """The request as if the file were its body; the type is the part's own."""
        self._upload: Upload[Any] | None = None
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._header_bytes = 0  # of one part
        self._around_bytes = 0
        self._in_file = False
        self._has_file = False
        callbacks: Any = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
        }
        self._parser = MultipartParser(boundary, callbacks)

    @classmethod
    def of(cls, request: Request) -> Self | None:
        """Make a parser if the request's body is a form.

        Raises:
            InvalidError: it is one, without a boundary.
        """
        kind, options = parse_options_header(request.headers.get(b"content-type"))
        if kind != FORM:
            return None
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= 70:
            got = request.header(b"content-type")
            raise InvalidError("content-type", got, "a boundary of 1 to 70 bytes (RFC 2046)")
        return cls(request, boundary)

    def write(self, upload: Upload[Any], chunk: bytes) -> None:
        """Parse the next bytes; those of the file go on into `upload`.

        Raises:
            InvalidError: malformed, or a second file.
            TooLargeError: too much around the file, or over the limit of the upload.
            FullError, UnavailableError: from the upload.
        """
        self._upload = upload
        self._around_bytes += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidError(
                "form", str(error)[:200], "multipart/form-data (RFC 7578)"
            ) from error
        if self._around_bytes > AROUND_BYTES_MAX:
            raise TooLargeError("form around its file", AROUND_BYTES_MAX)

    def end(self, upload: Upload[Any]) -> None:
        """Check that the form was whole and had a file.

        Raises:
            InvalidError: it was not.
        """
        del upload
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise InvalidError("form", str(error)[:200], "a closing boundary") from error
        if not self._has_file or self._in_file:
            raise InvalidError("form", None, "one part with a file name, closed by the boundary")

    def _begin_part(self) -> None:
        self._headers = {}
        self._header_bytes = 0

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._bound(end - start)

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bound(end - start)

    def _bound(self, size_bytes: int) -> None:
        self._header_bytes += size_bytes
        if self._header_bytes > HEADER_BYTES_MAX:
            raise InvalidError(
                "form", "long headers of a part", f"at most {HEADER_BYTES_MAX} bytes"
            )

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._in_file = b"filename" in options or options.get(b"name") in FILE_FIELDS
        if not self._in_file:
            return
        if self._has_file:
            raise InvalidError("form", "a second file", "one file")
        self._has_file = True
        assert self._upload is not None
        content_type = self._headers.get(b"content-type")
        if content_type is not None:
            self._upload.declare(content_type.decode("latin-1"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            assert self._upload is not None
            self._around_bytes -= end - start
            self._upload.write(data[start:end])

    def _end_part(self) -> None:
        self._in_file = False
