"""A store with some of everything, and what it holds."""

from pathlib import Path

import holdfast
from holdfast.core.access import ApiKey
from holdfast.core.bucket import Description
from holdfast.core.digest import BlobRef
from holdfast.core.kv import Item, Put
from holdfast.core.limits import KIB, MIB
from holdfast.core.policy import Owner, Policy, bucket_of
from holdfast.core.webhook import Webhook
from holdfast.depot.depot import Depot
from holdfast.depot.webhooks import STANDING
from holdfast.testing.blobs import make

VARIABLE, MASTER = "BLOBS_KEY", "ab" * 32
ENGINES = {
    "folder": "segments://{}",
    "compressed": "segments://{}?compress=zstd",
    "encrypted": "segments://{}?encrypt=env:BLOBS_KEY",
    "objects": "segments://{0}?large=file://{0}.bucket",
    "shards": "sqlite://{}?shards=3",
}
NEXT = list(zip(ENGINES, [*list(ENGINES)[1:], *ENGINES], strict=False))
LARGE = make(9 * MIB + 7)


def url_of(engine: str, folder: Path) -> str:
    """A store of an engine, with a folder for what lies elsewhere."""
    if engine == "objects":
        folder.with_name(f"{folder.name}.bucket").mkdir(exist_ok=True)
    return ENGINES[engine].format(folder)


def opened(target: str | Path) -> Depot:
    depot = holdfast.open(target)
    assert isinstance(depot, Depot)
    return depot


def fill(depot: Depot) -> None:
    """Every kind of row, and blobs of every size."""
    engine, policies = depot.engine, depot.engine.names.policies
    policies.set_owner(Owner(name="ann", quota_entries=1000))
    engine.keys.create(ApiKey(id="", owner="ann"))
    engine.webhooks.put(Webhook(name="hook", url="https://example.org/"))
    kept = depot.bucket(bucket_of("ann", "kept"))
    kept.set_policy(Policy(versions=5, undelete_s=9999))
    for number in range(3):
        kept.put("versions", b"version %d" % number)
    kept.put("deleted", b"gone for now")
    kept.delete("deleted")
    depot.put("late", b"goes by itself", about=Description(expire_s=5000, metadata={"a": "b"}))
    for size_bytes in (0, 1, 200 * KIB, 300 * KIB, 2 * MIB):
        depot.put(f"size/{size_bytes}", make(size_bytes))
    depot.put("large", LARGE)
    depot.put("key " * 200, b"under a long key")
    depot.content.put(b"held by its hash")
    for number in range(300):
        depot.bucket("many").put(f"{number}", b"%d" % number)
    depot.put("forgotten", b"nobody holds me")
    depot.set_policy(Policy(undelete_s=0))
    depot.delete("forgotten")
    engine.kv.commit([], [Put(b"zz", b"a row of a kind that is not known")]).result()


def rows(depot: Depot) -> list[Item]:
    return depot.engine.kv.scan(b"\x00", b"\xff" * 8, limit=100_000)


def catalog_of(depot: Depot) -> dict[bytes, bytes]:
    """All rows but where webhooks stand."""
    return {row.key: row.value for row in rows(depot) if not row.key.startswith(STANDING)}


def blobs_of(depot: Depot) -> list[BlobRef]:
    """What is held, and its size."""
    held = list(depot.content.digests())
    sizes = depot.engine.store.stat(held[:1000])
    return [BlobRef(digest, sizes[digest]) for digest in held]
