"""What fsck asks of shards at rest: their pages, rows and chunks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdfast.core.inspection import Finding
from holdfast.depot.audit import Wrong
from holdfast.shards.checking import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.shards.shards import Shards

KIND = "shard"


class ShardGround:
    """Shards that are open for this process alone."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def index(self) -> Iterator[Wrong | int]:
        """Let SQLite check its pages; hold rows to their checksums, and to the shard they are in.

        A damaged row is put right where the history still has what was written.
        """
        for found in check(self._shards):
            if isinstance(found, int):
                yield found
                continue
            mend = None if found.row is None else partial(found.shard.put_back, *found.row)
            where = f"{found.shard.path.name} {found.where}".strip()
            yield Wrong(Finding(KIND, where, found.why), mend)

    def record(self, finding: Finding) -> Wrong:
        """Nobody knows how: what the row said is told by `index`."""
        return Wrong(finding, None)

    def can_read(self, region: str) -> bool:
        """Whether a shard can be read, which it is."""
        del region
        return True

    def retire(self, region: str) -> bool:
        """Refuse: a store has all of its shards."""
        del region
        return False

    def leftovers(self) -> Iterator[Wrong]:
        """None: other files in the folder are nobody's business."""
        yield from ()
