"""From URLs and settings to the engine that keeps a store, and how many files it has.

sqlite:///data?shards=8&hash=xxh3&batch_size=64&batch_timeout_ms=5
"""

from collections.abc import Mapping
from typing import NamedTuple

from holdfast.config.settings import AUTO, Settings, read_text
from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.marker import LOG, SQLITE

OPTIONS = {
    "shards": "shards",
    "hash": "shard_hash",
    "batch_size": "batch_size",
    "batch_timeout_ms": "batch_timeout_ms",
}
"""Of URLs, and the settings that they are."""


class Sharding(NamedTuple):
    """The engine of a store, and how it is if that is SQLite; empty or 0: as the store says."""

    engine: str = ""
    shards: int = 0
    shard_hash: str = ""
    batch_size: int = 1
    batch_timeout_ms: int = 0

    @property
    def batch_wait_s(self) -> float:
        """How long the first of a batch waits for the others."""
        return self.batch_timeout_ms / 1000


def sharding_of(settings: Settings) -> Sharding:
    """What the settings of a server say."""
    return Sharding(
        _unless_auto(settings.engine),
        settings.shards,
        _unless_auto(settings.shard_hash),
        settings.batch_size,
        settings.batch_timeout_ms,
    )


def read_sharding(scheme: str, options: Mapping[str, str]) -> Sharding:
    """Read the engine from the scheme of a URL, and the rest from its options.

    Raises:
        InvalidError: an option has a value that it cannot have, or is for another scheme.
    """
    given = {name: text for name, text in options.items() if name in OPTIONS}
    if scheme != SQLITE:
        if given:
            raise InvalidError("options", ", ".join(given), f"these are for {SQLITE}:///folder")
        return Sharding({"segments": LOG}.get(scheme, ""))
    if given.get("shards") == "0":
        raise InvalidError("shards", "0", f"a whole number from 1 to {limits.SHARDS_MAX}")
    values = {OPTIONS[name]: read_text(OPTIONS[name], text, name) for name, text in given.items()}
    found = Sharding(SQLITE)._replace(**values)
    return found._replace(shard_hash=_unless_auto(found.shard_hash))


def _unless_auto(word: str) -> str:
    return "" if word == AUTO else word
