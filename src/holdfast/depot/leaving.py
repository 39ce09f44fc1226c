"""What becomes of all that an owner had, once the owner is removed: it goes, in bounded steps.

Names, what is kept of them, blobs held by their hashes, webhooks, keys, policies, counters; nobody
else's.
Each step is one commit, and whoever is stopped in between begins again with what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.kv import Delete, Unchanged, pages, prefix_end
from holdfast.core.policy import OWNER_MARK, bucket_of
from holdfast.depot import catalog
from holdfast.depot.keys import KEY, key_owner
from holdfast.depot.policies import CHANGED, POLICY
from holdfast.depot.webhooks import DEAD, STANDING, WEBHOOK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.kv import KV, Item, Write

STEP_ROWS = 10  # in one commit, each with its reference, counters and time


def leave(kv: KV, owner: str) -> Iterator[int]:
    """Remove what an owner had; yields how many names each step has removed."""
    for table in catalog.NAMES:
        start = table + owner.encode() + OWNER_MARK.encode()
        while items := kv.scan(start, prefix_end(start), limit=STEP_ROWS):
            writes: list[Write] = []
            for item in items:
                row = catalog.decode_row(item.key, item.value)
                writes += catalog.forgetting(row, item.key)
            yield _commit(kv, items, writes)
    yield from _let_go(kv, owner)
    for prefix in (WEBHOOK, STANDING, DEAD, POLICY, catalog.USAGE):
        yield from _remove(kv, prefix + owner.encode() + OWNER_MARK.encode())
    kv.commit((), (Delete(catalog.owner_usage_key(owner)),)).result()
    yield from _revoke(kv, owner)


def _let_go(kv: KV, owner: str) -> Iterator[int]:
    """Remove what is held by hashes; they are found among those of all."""
    start, end = catalog.REFERENCE, prefix_end(catalog.REFERENCE)
    while items := kv.scan(start, end, limit=limits.LIST_LIMIT_MAX):
        mine = catalog.BY_CONTENT + owner.encode()
        held = [item for item in items if catalog.holder(item.key) == mine]
        for at in range(0, len(held), STEP_ROWS):
            some = held[at : at + STEP_ROWS]
            writes: list[Write] = []
            for item in some:
                size_bytes = catalog.decode_held(item.value).size_bytes
                writes.append(Delete(item.key))
                writes += catalog.counting(bucket_of(owner, ""), -1, -size_bytes)
            yield _commit(kv, some, writes)
        yield 0
        if not held:  # else some may have changed at that moment
            start = items[-1].key + b"\x00"


def _remove(kv: KV, prefix: bytes) -> Iterator[int]:
    while items := kv.scan(prefix, prefix_end(prefix), limit=STEP_ROWS):
        kv.commit((), [Delete(item.key) for item in items] + [CHANGED]).result()
        yield 0


def _revoke(kv: KV, owner: str) -> Iterator[int]:
    for items in pages(kv, KEY):
        mine = [item for item in items if key_owner(item) == owner]
        for at in range(0, len(mine), STEP_ROWS):
            some = mine[at : at + STEP_ROWS]
            kv.commit((), [Delete(item.key) for item in some] + [CHANGED]).result()
        yield 0


def _commit(kv: KV, items: list[Item], writes: list[Write]) -> int:
    """Remove rows unless one of them changes at this moment; then the next look finds it."""
    conditions = [Unchanged(item.key, item.revision) for item in items]
    kv.commit(conditions, catalog.merge(writes)).result()
    return len(items)
