"""Stores over an object store, and what lies in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import obstore
from obstore.store import S3Store

from holdfast.core import limits
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.stores.objects import ObjectStore
from holdfast.stores.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ObjectStore as Client
    from obstore.store import S3Config

    from holdfast.core.seams import Clock


def open_objects(
    client: Client,
    part_bytes: int = limits.OBJECT_PART_BYTES,
    *,
    clock: Clock | None = None,
    pause: Callable[[float], object] = lambda _: None,
) -> ObjectStore:
    """Open a store that loses no time between two tries."""
    clock, entropy = clock or SystemClock(), SystemEntropy()
    return ObjectStore(
        Remote(client, "objects:test", clock, entropy, pause), entropy, clock, part_bytes
    )


def names(client: Client, top: str = "") -> list[str]:
    """Names of all objects, or of those in one folder."""
    return sorted(each["path"] for page in obstore.list(client, top or None) for each in page)


def s3(
    port: int, prefix: str, timeout: str = "5s", *, credentials: S3Config | None = None
) -> S3Store:
    """A client of a server on this machine, which tries nothing twice by itself."""
    return S3Store(
        bucket="bench",
        prefix=prefix,
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        client_options={"allow_http": True, "timeout": timeout},
        retry_config={"max_retries": 0},
        skip_signature=credentials is None,
        config=credentials,
    )
