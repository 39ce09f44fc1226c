"""Facts: counters and gauges of a log, as docs/operations.md explains them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.log.index import Index
    from holdfast.log.report import Recovery
    from holdfast.log.writer import Writer


def facts(index: Index, writer: Writer, recovery: Recovery) -> Mapping[str, int]:
    """What the log says of itself."""
    stats = writer.stats
    blobs, keys = index.counts()
    rows, end = index.accounts.rows(), index.applied()
    log_bytes = sum(row.size_bytes for row in rows.values()) + (end.offset if end else 0)
    return {
        "healthy": int(writer.healthy),
        "batches": stats.batches,
        "jobs": stats.jobs,
        "appended_bytes": stats.bytes,
        "segments": len(rows),
        "log_bytes": log_bytes,
        "live_bytes": sum(row.live_bytes for row in rows.values()),
        "compacted_bytes": stats.compacted_bytes,
        "freed_bytes": stats.freed_bytes,
        "blobs": blobs,
        "keys": keys,
        "recovered_records": recovery.records,
        "truncated_bytes": recovery.truncated_bytes,
        "torn_bytes": recovery.torn_bytes,
        "damaged_places": recovery.damaged_places,
        "damaged_bytes": recovery.damaged_bytes,
    }
