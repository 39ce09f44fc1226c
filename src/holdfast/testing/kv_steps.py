"""The few steps that tests of a key-value space are made of."""

from collections.abc import Sequence

from holdfast.core.kv import KV, Change, Committed, Compare, Conflict, Item, Write

FIRST = b""
LAST = b"\xff" * 4097
"""Behind every key."""
SCAN_LIMIT = 10_000


def commit(kv: KV, *writes: Write, compares: Sequence[Compare] = ()) -> int:
    """Commit, expect no conflict, and return the revision."""
    outcome = kv.commit(compares, writes).result()
    assert isinstance(outcome, Committed), outcome
    return outcome.revision


def conflict(kv: KV, compares: Sequence[Compare], *writes: Write) -> int | None:
    """Commit and return the position of the compare that did not hold; None when all held."""
    outcome = kv.commit(compares, writes).result()
    return outcome.position if isinstance(outcome, Conflict) else None


def everything(kv: KV, *, reverse: bool = False) -> list[Item]:
    """Read the whole space."""
    return kv.scan(FIRST, LAST, limit=SCAN_LIMIT, reverse=reverse)


def history(kv: KV, prefix: bytes = b"", from_revision: int = 1) -> list[Change]:
    """Read the changes up to now."""
    return list(kv.watch(prefix, from_revision, wait_s=0))
