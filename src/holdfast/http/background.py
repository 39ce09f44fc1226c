"""What a server tells its store, and does for it without being asked."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from holdfast.config.sharding import sharding_of
from holdfast.config.stack import wanted_of
from holdfast.config.target import stack_of
from holdfast.depot.engine import Limits
from holdfast.http.dial import dialing
from holdfast.services.away import Away
from holdfast.services.caretaker import Caretaker
from holdfast.services.compaction import Compaction
from holdfast.services.dispatch import Dispatch
from holdfast.services.hints import Hints
from holdfast.services.janitor import Janitor
from holdfast.services.scrub import Scrub
from holdfast.services.sweeper import Sweeper
from holdfast.services.tiering import Tiering

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from holdfast.config.settings import Settings
    from holdfast.depot.depot import Depot
    from holdfast.depot.stack import Stack
    from holdfast.services.caretaker import Task


def bounds(settings: Settings) -> Limits:
    """How the depot works by itself, where no policy says more."""
    sharding = sharding_of(settings)
    return Limits(
        settings.max_body_bytes,
        settings.content_max_body_bytes,
        settings.undelete_s,
        settings.small_blob_bytes_max,
        settings.audit_days,
        stack(settings),
        sharding.engine,
        sharding.shards,
        sharding.shard_hash,
        sharding.batch_size,
        sharding.batch_wait_s,
    )


def stack(settings: Settings) -> Stack:
    """The wrappers around the bytes, with the secret that they need.

    Raises:
        InvalidError: it is not where the setting says.
    """
    return stack_of(wanted_of(settings))


def caretaker(depot: Depot, settings: Settings) -> Caretaker:
    """What looks after the store while it is served: by one process, however many there are."""
    tasks: list[Task] = [Janitor(depot.engine), Hints(depot.engine), Compaction(depot.engine)]
    if settings.scrub_days:
        tasks.append(Scrub(depot.engine, settings.scrub_days, settings.scrub_bytes_s_max))
    if settings.sweep_every_s:
        tasks.append(Sweeper(depot, settings.sweep_every_s, settings.sweep_grace_s))
    return Caretaker(tasks)


def mover(depot: Depot, settings: Settings) -> AbstractContextManager[object]:
    """What waits for an object store, and moves old blobs: by itself, for that may take long."""
    tier, ownership = depot.engine.tier, depot.engine.ownership
    tasks: list[Task] = []
    if ownership is not None:
        tasks.append(Away(ownership))
    if tier is not None:
        tasks.append(Tiering(tier, settings.cold_after))
    return Caretaker(tasks) if tasks else nullcontext()


def dispatch(depot: Depot, settings: Settings) -> Dispatch:
    """What sends events to webhooks: the same process as looks after the store."""
    dial = dialing(settings, depot.engine.names.clock)
    return Dispatch(depot.engine, dial, settings.webhook_give_up_s)
