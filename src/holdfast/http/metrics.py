"""Counters of the server, in the Prometheus text format at GET /metrics.

Counting is a dictionary update on the loop's thread; everything else happens when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from holdfast.depot.depot import Depot

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


class Counts:
    """What happened since the server started; written by one thread, read by any."""

    __slots__ = ("connections", "received_bytes", "requests", "seconds", "sent_bytes")

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.received_bytes = 0
        self.sent_bytes = 0
        self.connections = 0

    def add(self, route: str, method: str, status: int, sent_bytes: int) -> None:
        """Count one answered request."""
        self.requests[route, method, status] += 1
        self.sent_bytes += sent_bytes


class SiteCollector(Collector):
    """Turns counters and the store's own facts into metrics."""

    def __init__(self, counts: Counts, depot: Depot) -> None:
        self._counts = counts
        self._depot = depot

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of docs/operations.md."""
        counts = self._counts
        requests = CounterMetricFamily(
            "holdfast_http_requests", "Answered requests.", labels=("route", "method", "status")
        )
        for (route, method, status), count in list(counts.requests.items()):
            requests.add_metric((route, method, str(status)), count)
        yield requests
        yield CounterMetricFamily(
            "holdfast_http_received_bytes", "Bytes of bodies received.", counts.received_bytes
        )
        yield CounterMetricFamily(
            "holdfast_http_sent_bytes", "Bytes of bodies sent.", counts.sent_bytes
        )
        yield GaugeMetricFamily(
            "holdfast_http_connections", "Open connections.", counts.connections
        )
        stats = self._depot.stats()
        yield GaugeMetricFamily("holdfast_entries", "Names in all buckets.", stats.entries)
        yield GaugeMetricFamily(
            "holdfast_entry_bytes", "Bytes behind all names, shared ones again.", stats.entry_bytes
        )
        yield GaugeMetricFamily("holdfast_revision", "Newest commit.", stats.revision)
        for name, value in self._depot.engine.facts().items():
            yield GaugeMetricFamily(f"holdfast_log_{name}", f"Of the log: {name}.", value)


def text(counts: Counts, depot: Depot) -> bytes:
    """Write all metrics."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(SiteCollector(counts, depot))
    return generate_latest(registry)
