"""Counters of the server, in the Prometheus text format at GET /metrics.

Any worker answers for the whole server: it adds up what all have counted (http/counts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from holdfast.depot.moving import Stage
from holdfast.http.counts import CONNECTIONS, LISTENERS, READY, RECEIVED, RESTARTS, SENT, UNHEALTHY
from holdfast.http.processes import Processes
from holdfast.services.moving import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from holdfast.depot.depot import Depot
    from holdfast.http.counts import Sums
    from holdfast.http.processes import Team
    from holdfast.http.queue import Queue

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


LOG_COUNTERS = ("batches", "jobs", "appended_bytes")
"""Facts of the log that every process counts for itself."""
LOG_OPENING = (
    "recovered_records",
    "truncated_bytes",
    "torn_bytes",
    "damaged_places",
    "damaged_bytes",
)
"""Facts of the log that only who opened it knows."""


class SiteCollector(Collector):
    """Turns counters and the store's own facts into metrics."""

    def __init__(self, team: Team, depot: Depot, queue: Queue, move: Progress | None) -> None:
        self._team = team
        self._move = move or Progress()
        self._queue = queue
        self._depot = depot

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of docs/operations.md."""
        sums = self._team.tally.sums()
        requests = CounterMetricFamily(
            "holdfast_http_requests", "Answered requests.", labels=("route", "method", "status")
        )
        for (route, method, status), count in sums.requests.items():
            requests.add_metric((route, method, str(status)), count)
        yield requests
        for name, at, about in (
            ("holdfast_http_received_bytes", RECEIVED, "Bytes of bodies received."),
            ("holdfast_http_sent_bytes", SENT, "Bytes of bodies sent."),
            ("holdfast_worker_restarts", RESTARTS, "Workers that died and were started again."),
        ):
            yield CounterMetricFamily(name, about, sums.numbers[at])
        for name, at, about in (
            ("holdfast_http_connections", CONNECTIONS, "Open connections."),
            ("holdfast_workers", READY, "Processes that take requests."),
            ("holdfast_listeners", LISTENERS, "Who listen to events."),
        ):
            yield GaugeMetricFamily(name, about, sums.numbers[at])
        yield from self._of_the_store(sums)
        yield from self._of_webhooks()
        yield from self._of_the_queue()
        yield from self._of_the_move()

    def _of_the_move(self) -> Iterator[Metric]:
        stages = GaugeMetricFamily(
            "holdfast_move", "1 for the stage that a move of the store is in.", labels=("stage",)
        )
        for stage in Stage:
            stages.add_metric((stage.value,), self._move.stage == stage)
        yield stages
        for name, about in (
            ("copied_blobs", "Blobs that this process has copied."),
            ("copied_bytes", "Their bytes."),
        ):
            number = getattr(self._move, name)
            yield CounterMetricFamily(f"holdfast_move_{name}", about, number)
        for name, about in (
            ("left_blobs", "About how many blobs the pass has not looked at yet."),
            ("left_bytes", "Their bytes."),
            ("damaged", "Blobs that the last pass could not read in the old store."),
        ):
            yield GaugeMetricFamily(f"holdfast_move_{name}", about, getattr(self._move, name))

    def _of_the_queue(self) -> Iterator[Metric]:
        queue = self._queue
        if queue.is_on:
            name, about = "holdfast_queued_writes", "Answered writes that are not durable yet."
            yield GaugeMetricFamily(name, about, queue.writes)
            yield CounterMetricFamily(
                "holdfast_lost_writes", "Answered writes that failed then.", queue.failures
            )

    def _of_webhooks(self) -> Iterator[Metric]:
        hooks, clock = self._depot.engine.webhooks, self._depot.engine.names.clock
        messages = CounterMetricFamily(
            "holdfast_webhook_messages",
            "What came of messages to a webhook.",
            labels=("webhook", "outcome"),
        )
        dead = GaugeMetricFamily("holdfast_webhook_dead", "Dead letters.", labels=("webhook",))
        lag = GaugeMetricFamily(
            "holdfast_webhook_lag_s", "How long the next message has waited.", labels=("webhook",)
        )
        for stored, _ in hooks.everyone():
            name = stored.webhook.name
            found = hooks.standing(name)
            if found is not None:
                standing, _ = found
                for outcome in ("delivered", "failed", "given_up"):
                    messages.add_metric((name, outcome), getattr(standing, outcome))
                dead.add_metric((name,), standing.dead)
                lag_s = 0.0 if stored.webhook.is_paused else standing.lag_s(clock.now_us())
                lag.add_metric((name,), lag_s)
        yield from (messages, dead, lag)

    def _of_the_store(self, sums: Sums) -> Iterator[Metric]:
        stats = self._depot.stats()
        yield GaugeMetricFamily("holdfast_entries", "Names in all buckets.", stats.entries)
        yield GaugeMetricFamily(
            "holdfast_entry_bytes", "Bytes behind all names, shared ones again.", stats.entry_bytes
        )
        yield GaugeMetricFamily("holdfast_revision", "Newest commit.", stats.revision)
        blobs, size_bytes = self._depot.engine.names.swept()
        yield CounterMetricFamily("holdfast_swept_blobs", "Blobs removed, for no name.", blobs)
        yield CounterMetricFamily("holdfast_swept_bytes", "Their bytes.", size_bytes)
        blobs, size_bytes = self._depot.engine.names.moved()
        yield CounterMetricFamily("holdfast_tier_blobs", "Blobs moved, for their age.", blobs)
        yield CounterMetricFamily("holdfast_tier_bytes", "Their bytes, as stored.", size_bytes)
        is_away = bool(self._depot.engine.away)
        yield GaugeMetricFamily("holdfast_objects_away", "1 while an object store is.", is_away)
        opening = {name: self._team.opening[name] for name in LOG_OPENING if self._team.opening}
        facts = {**self._depot.engine.facts(), **opening, **sums.facts}
        facts["healthy"] &= sums.numbers[UNHEALTHY] == 0
        for name, value in facts.items():
            yield GaugeMetricFamily(f"holdfast_log_{name}", f"Of the log: {name}.", value)
        for name, number in self._depot.engine.stamps.read().gauges().items():
            yield GaugeMetricFamily(f"holdfast_scrub_{name}", f"Of the scrub: {name}.", number)


def text(team: Team, depot: Depot, queue: Queue, move: Progress | None = None) -> bytes:
    """Write all metrics."""
    registry = CollectorRegistry()
    registry.register(Processes(team) if team.supervisor else ProcessCollector(registry=None))
    PlatformCollector(registry=registry)
    registry.register(SiteCollector(team, depot, queue, move))
    return generate_latest(registry)
