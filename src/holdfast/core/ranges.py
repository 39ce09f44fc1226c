"""Byte ranges of RFC 9110 section 14, as the widely used servers read them.

A malformed Range header, or another unit, is ignored. Ranges that overlap so much that together
they are larger than the blob are ignored too, as nginx does, so that no request costs more than
the whole.
"""

import re

from holdfast.core import limits
from holdfast.core.errors import UnsatisfiableError
from holdfast.core.store import Span

RANGE = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")  # keeps every number far under 64 bits
BLANKS = " \t"


def parse_range(header: str, size_bytes: int) -> list[Span] | None:
    """Read a Range header for a blob of `size_bytes`; None means: send the whole.

    Spans come in the order asked, clamped to the blob, none of them empty.

    >>> parse_range("bytes=0-0,-2", 10)
    [Span(offset=0, size_bytes=1), Span(offset=8, size_bytes=2)]
    >>> parse_range("lines=1-2", 10) is None
    True

    Raises:
        UnsatisfiableError: well-formed, but no range lies within the blob.
    """
    unit, _, ranges = header.partition("=")
    parts = [part.strip(BLANKS) for part in ranges.split(",")]
    if unit.lower() != "bytes" or size_bytes == 0 or not parts[0]:
        return None
    parts = [part for part in parts if part]
    if len(parts) > limits.RANGES_MAX or not all(map(_is_well_formed, parts)):
        return None
    spans = [span for part in parts if (span := _span(part, size_bytes)) is not None]
    if not spans:
        raise UnsatisfiableError(size_bytes)
    if sum(span.size_bytes for span in spans) > size_bytes:
        return None
    return spans


def _is_well_formed(part: str) -> bool:
    match = RANGE.fullmatch(part)
    if match is None or part == "-":
        return False
    first, last = match.groups()
    return not (first and last) or int(first) <= int(last)


def _span(part: str, size_bytes: int) -> Span | None:
    first, _, last = part.partition("-")
    if not first:
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start, end = int(first), min(size_bytes, int(last) + 1 if last else size_bytes)
    return Span(start, end - start) if start < end else None
