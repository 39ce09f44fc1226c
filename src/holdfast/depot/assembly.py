"""A depot over the parts of any engine: catalog, uploads, policies, and what looks after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.seams import SystemEntropy
from holdfast.depot.audit import Audit
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Engine
from holdfast.depot.ingest import Ingest
from holdfast.depot.inspection import CatalogMedium
from holdfast.depot.kept import Expiry, Kept
from holdfast.depot.keys import Keys
from holdfast.depot.names import Names
from holdfast.depot.policies import Policies
from holdfast.depot.stamps import Stamps
from holdfast.depot.trail import Trail
from holdfast.depot.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from holdfast.core.inspection import Medium
    from holdfast.core.kv import KV
    from holdfast.core.seams import Clock, Disk
    from holdfast.core.store import Store
    from holdfast.depot.audit import Ground
    from holdfast.depot.cold import Tier
    from holdfast.depot.engine import Limits, Spots
    from holdfast.depot.ownership import Ownership
    from holdfast.log.compaction import Freed
    from holdfast.log.report import Recovery
    from holdfast.stores.encoded import Form


class Parts(NamedTuple):
    """What an engine brings; each member is explained in `Engine`."""

    path: Path
    disk: Disk
    clock: Clock
    store: Store
    kv: KV
    facts: Callable[[], Mapping[str, int]]
    recovery: Recovery
    media: Sequence[Medium]
    """Where the bytes of blobs lie."""
    ground: Ground
    make_hints: Callable[[], Iterator[int]]
    compact: Callable[..., Iterator[Freed]]
    spot: Spots
    close: Callable[[], None]
    sweep_uploads: Callable[[float], Iterator[int]]
    renumber: Callable[[int], None]
    zstd: Callable[..., Form | None] | None
    tier: Tier | None = None
    ownership: Ownership | None = None


def assemble(parts: Parts, bounds: Limits) -> Depot:
    """Put a depot together; it closes the engine."""
    store, kv, clock, entropy = parts.store, parts.kv, parts.clock, SystemEntropy()
    policies = Policies(kv, clock, bounds.undelete_s)
    names, ingest = Names(kv, clock, policies), Ingest(store, kv)
    return Depot(
        Engine(
            store,
            kv,
            names,
            Keys(kv, clock, entropy, policies),
            Webhooks(kv, clock, entropy, policies),
            Trail(kv, clock, entropy, bounds.audit_days),
            Kept(kv, names),
            Expiry(kv, policies, clock),
            ingest,
            bounds,
            parts.facts,
            parts.recovery,
            (*parts.media, CatalogMedium(kv, parts.media)),
            Audit(parts.ground, kv, parts.media),
            Stamps(parts.path, parts.disk),
            parts.make_hints,
            parts.compact,
            parts.disk,
            parts.spot,
            parts.close,
            parts.sweep_uploads,
            parts.renumber,
            parts.zstd,
            parts.tier,
            parts.ownership,
        )
    )


def succeed(depot: Depot, store: Store) -> Depot:
    """Let a depot use `store`, which has its own inside and also reads what lies elsewhere."""
    engine = depot.engine
    *media, _ = engine.media
    engine.ingest.close()
    return Depot(
        engine._replace(
            store=store,
            ingest=Ingest(store, engine.kv),
            media=(*media, CatalogMedium(engine.kv, media, store)),
        ),
        depot.name,
    )
