"""Conditional requests of RFC 9110 section 13, as a function of headers and what is stored."""

import re
from datetime import UTC, datetime
from email.utils import formatdate
from enum import Enum
from typing import NamedTuple

ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"
OLD_DATES = ("%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")  # §5.6.7: must still be read


class Outcome(Enum):
    """What a conditional request comes to."""

    PROCEED = 200
    NOT_MODIFIED = 304
    FAILED = 412


class Conditions(NamedTuple):
    """The conditional headers of one request as they came; None where absent."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None


class Validators(NamedTuple):
    """What the stored representation is compared by: a strong ETag and whole seconds."""

    etag: str
    modified_s: int


NO_CONDITIONS = Conditions()


def evaluate(conditions: Conditions, stored: Validators | None, *, reading: bool) -> Outcome:
    """Decide in the order of RFC 9110 §13.2.2; `stored` is None when nothing is there."""
    if conditions == NO_CONDITIONS:
        return Outcome.PROCEED
    if conditions.if_match is not None:
        if not _matches(conditions.if_match, stored, weak=False):
            return Outcome.FAILED
    elif _is_modified_after(conditions.if_unmodified_since, stored):
        return Outcome.FAILED
    if conditions.if_none_match is not None:
        if _matches(conditions.if_none_match, stored, weak=True):
            return Outcome.NOT_MODIFIED if reading else Outcome.FAILED
    elif reading and _is_unmodified_since(conditions.if_modified_since, stored):
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def range_applies(if_range: str | None, stored: Validators) -> bool:
    """Whether a Range header counts (§13.1.5): the tag is ours and strong, or the date is exact."""
    if if_range is None:
        return True
    if if_range.strip().startswith(('"', "W/")):
        return if_range.strip() == stored.etag
    return parse_date(if_range) == stored.modified_s


def parse_date(text: str) -> int | None:
    """Seconds since 1970 of an HTTP date in any of its three forms; None when it is none."""
    for form in (HTTP_DATE, *OLD_DATES):
        try:
            moment = datetime.strptime(text.strip(), form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return int(moment.timestamp())
    return None


def format_date(seconds: int) -> str:
    """An HTTP date (§5.6.7)."""
    return formatdate(seconds, usegmt=True)


def _matches(header: str, stored: Validators | None, *, weak: bool) -> bool:
    if stored is None:
        return False
    if header.strip() == "*":
        return True
    tags = ENTITY_TAG.findall(header)
    return any(tag == stored.etag and (weak or not mark) for mark, tag in tags)


def _is_modified_after(header: str | None, stored: Validators | None) -> bool:
    if header is None or stored is None:
        return False
    limit_s = parse_date(header)
    return limit_s is not None and stored.modified_s > limit_s


def _is_unmodified_since(header: str | None, stored: Validators | None) -> bool:
    if header is None or stored is None:
        return False
    since_s = parse_date(header)
    return since_s is not None and stored.modified_s <= since_s
