"""Media whose regions are folders, each named by the first byte of the digests in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import CorruptError, NotFoundError, UnsupportedError
from holdfast.core.inspection import Finding, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.digest import Digest
    from holdfast.core.inspection import Place

POSITION_BYTES = 7  # of the digest, behind the byte that names the folder
END = 1 << 8 * POSITION_BYTES


def position_of(digest: Digest) -> int:
    """Where a blob stands in its folder."""
    return int.from_bytes(digest[1 : 1 + POSITION_BYTES], "big")


def judge(
    digest: Digest, content: Iterator[int], place: Callable[[Digest], Place | None]
) -> Iterator[Seen]:
    """Say what is seen of a blob while `content` verifies it; nothing of one that is gone."""
    position, why = position_of(digest), ""
    try:
        for size_bytes in content:
            yield Seen(position, size_bytes)
    except NotFoundError:
        return
    except (CorruptError, UnsupportedError) as error:
        offset = error.facts.get("offset")
        why = error.message if offset is None else f"{error.message} (offset {offset})"
    if why:
        found = Finding("blob", str(digest), why, str(digest), place(digest))
        yield Seen(position, 0, findings=(found,))
    else:
        yield Seen(position, 0, 1)
