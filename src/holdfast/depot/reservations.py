"""Room under a quota that uploads have taken before their first byte, until they end.

A quota is held exactly by the commit that names a blob, whoever else writes. Reservations keep
those who have no chance from sending their bytes, and an upload that was admitted from being
overtaken by others of the same process. They are memory: whatever ends a process lets go of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from holdfast.depot.policies import read_used

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.kv import KV
    from holdfast.depot.policies import Quota


class Reservations:
    """All that this process has taken, by rows of counters; `_lock` guards it."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv
        self._lock = threading.Lock()
        self._taken: Counter[bytes] = Counter()

    def take(self, quotas: Sequence[Quota], size_bytes: int) -> None:
        """Take room under all of these quotas; for Room alone.

        Raises:
            QuotaError: there is none, and nothing was taken.
        """
        with self._lock:
            for quota in quotas:
                used = read_used(self._kv.get(quota.row))
                others = used._replace(entry_bytes=used.entry_bytes + self._taken[quota.row])
                quota.check(others, size_bytes, 0)
            for quota in quotas:
                self._taken[quota.row] += size_bytes

    def give_back(self, quotas: Sequence[Quota], size_bytes: int) -> None:
        """Let go; for Room alone."""
        with self._lock:
            for quota in quotas:
                self._taken[quota.row] -= size_bytes
                if self._taken[quota.row] <= 0:
                    del self._taken[quota.row]


class Room:
    """What one upload has taken; it belongs to one thread at a time."""

    def __init__(
        self, reservations: Reservations, quotas: Sequence[Quota], replaced_bytes: int
    ) -> None:
        """Take nothing yet; an upload that replaces so many bytes needs room for the others."""
        self._reservations = reservations
        self._quotas = quotas
        self._replaced_bytes = replaced_bytes
        self._taken_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Have room for so many bytes.

        Raises:
            QuotaError: there is none.
        """
        missing = size_bytes - self._replaced_bytes - self._taken_bytes
        if missing > 0:
            self._reservations.take(self._quotas, missing)
            self._taken_bytes += missing

    def release(self) -> None:
        """Let go of all of it; a second call does nothing."""
        taken_bytes, self._taken_bytes = self._taken_bytes, 0
        if taken_bytes:
            self._reservations.give_back(self._quotas, taken_bytes)
