"""Which policy holds for a bucket: kept in the KV, remembered while none of them changed.

    p                -> counts changes of all of these
    b <bucket>       -> the policy of a bucket
    o <owner>        -> who may store how much

A process notices the change of another one before the next use: the horizon of the table of that
count has moved, which costs nothing to see, whatever else is written.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from holdfast.core import limits
from holdfast.core.errors import CorruptError, DeniedError, FullError, QuotaError, UnavailableError
from holdfast.core.kv import Add, Committed, Delete, Put, Unchanged, counters, pages, prefix_end
from holdfast.core.policy import NO_POLICY, NOBODY, OWNER_MARK, Owner, Policy, bucket_of, owner_of
from holdfast.depot import catalog
from holdfast.depot.catalog import Due

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.kv import KV, Compare, Versioned, Write
    from holdfast.core.seams import Clock

CHANGES = b"p"
POLICY = b"b"
OWNER = catalog.OWNER
LEAVE_S = 10  # until who wants the name of an owner who leaves may ask again
TRIM_AFTER_S = 60  # until the surplus goes: longer than any change that saw the old policy
NO_OWNER = Owner(name=NOBODY)

Value = TypeVar("Value")

_encode = msgspec.json.Encoder().encode
_policy = msgspec.json.Decoder(Policy).decode
_owner = msgspec.json.Decoder(Owner).decode


class Used(NamedTuple):
    """What is stored: entries that can be read, and replaced ones that are kept."""

    entries: int = 0
    entry_bytes: int = 0
    versions: int = 0
    version_bytes: int = 0


def read_used(stored: Versioned | None) -> Used:
    """Read counters."""
    return Used() if stored is None else Used(*counters(stored.value))


class Quota(NamedTuple):
    """How much may be under one row of counters."""

    row: bytes
    size_bytes: int | None
    entries: int | None

    def check(self, used: Sequence[int], size_bytes: int, entries: int) -> None:
        """Hold a change by so much to the quota; one that makes nothing larger is always taken.

        What is used are the counters of `Used`, as many as there are.

        Raises:
            QuotaError: it is over.
        """
        bound = self.size_bytes
        if bound is not None and size_bytes > 0:
            used_bytes = sum(used[1::2])
            if used_bytes + size_bytes > bound:
                raise QuotaError(used_bytes, bound)
        bound = self.entries
        if bound is not None and entries > 0:
            used_entries = used[0] if used else 0
            if used_entries + entries > bound:
                raise QuotaError(used_entries, bound, "entries")


class Terms(NamedTuple):
    """What holds for a bucket, with what its owner may."""

    policy: Policy
    owner: Owner
    quotas: Sequence[Quota]
    undelete_s: int
    guard: bytes = b""
    """A row that says whether the owner is still there; of nobody's buckets there is none."""
    guarded: bytes = b""
    """What it said when this was read."""
    rows: tuple[bytes, ...] = ()
    """What a change has to read: the guard, if there is one, and the counters under the quotas."""

    def check_owner(self, stored: Versioned | None) -> None:
        """Hold a change to what its guard says when it is committed.

        Raises:
            DeniedError, UnavailableError: the owner was removed.
        """
        if self.owner is NO_OWNER:
            if stored is not None:
                raise leaving()
        elif stored is None or not self._is_owner(stored.value):
            raise removed()

    def _is_owner(self, value: bytes) -> bool:
        """Whether a row is that of the same owner, changed or not."""
        if value == self.guarded:
            return True
        return _decode(_owner, value, "").created_us == self.owner.created_us

    @property
    def keeps_versions(self) -> bool:
        """Whether replaced entries are kept."""
        return self.policy.versions > 0


class Policies:
    """The policies of a store; safe from any thread."""

    def __init__(self, kv: KV, clock: Clock, undelete_s: int) -> None:
        self._kv = kv
        self._clock = clock
        self._undelete_s = undelete_s
        self._changes = -1
        self._terms: dict[str, Terms] = {}

    @property
    def changes(self) -> int:
        """A number that is another one when any policy, owner or key has changed."""
        horizon = self._kv.horizon(CHANGES)
        if horizon != self._changes and horizon <= self._kv.revision():
            self._terms = {}
            self._changes = horizon  # last: who sees it finds nothing of before
        return self._changes

    def of(self, bucket: str) -> Terms:
        """What holds for a bucket now."""
        changes = self.changes
        terms = self._terms
        found = terms.get(bucket)
        if found is None:
            found = self._read(bucket)
            if len(terms) >= limits.TERMS_KEPT_MAX:
                terms.clear()
            if changes == self.changes:
                terms[bucket] = found
        return found

    def check_same(self, bucket: str, owner: Owner) -> None:
        """See that a bucket still belongs to whom it did when an upload was admitted.

        Raises:
            DeniedError: that owner was removed.
        """
        if self.of(bucket).owner.created_us != owner.created_us:
            raise removed()

    def policy(self, bucket: str) -> Policy:
        """The policy of a bucket as it was set."""
        stored = self._kv.get(_policy_key(bucket))
        return NO_POLICY if stored is None else _decode(_policy, stored.value, bucket)

    def owner(self, name: str) -> Owner | None:
        """An owner."""
        stored = self._kv.get(owner_key(name))
        return None if stored is None else _decode(_owner, stored.value, name)

    def owners(self, after: str = "", limit: int = limits.LIST_LIMIT_DEFAULT) -> list[Owner]:
        """Owners behind `after`, by their names."""
        start = owner_key(after) + b"\x00" if after else OWNER
        items = self._kv.scan(start, prefix_end(OWNER), limit=limit)
        return [_decode(_owner, item.value, item.key[1:].decode()) for item in items]

    def buckets(
        self, after: str = "", limit: int = limits.LIST_LIMIT_DEFAULT, owner: str | None = None
    ) -> list[str]:
        """Buckets that hold something or have a policy, by their names, behind `after`."""
        found: list[str] = []
        space = bucket_of(owner, "") if owner else ""
        tables = (self._named(table, space, after) for table in (POLICY, catalog.USAGE))
        for name in heapq.merge(*tables):
            is_other = name not in found[-1:] and not name.endswith(OWNER_MARK)
            if is_other and self._is_used(name):
                found.append(name)
                if len(found) == limit:
                    break
        return found

    def _named(self, table: bytes, space: str, after: str) -> Iterator[str]:
        """Yield the buckets of a table whose names begin so, behind one."""
        prefix = table + space.encode()
        start = max(prefix, table + after.encode() + (b"\x00" if after else b""))
        for items in pages(self._kv, start, prefix_end(prefix)):
            yield from (item.key[1:].decode() for item in items)

    def _is_used(self, bucket: str) -> bool:
        return any(self.used(bucket)) or self.policy(bucket) != NO_POLICY

    def used(self, bucket: str) -> Used:
        """What a bucket holds."""
        return read_used(self._kv.get(catalog.usage_key(bucket)))

    def owner_used(self, owner: str) -> Used:
        """What an owner has in all buckets."""
        return read_used(self._kv.get(catalog.owner_usage_key(owner)))

    def set_policy(self, bucket: str, policy: Policy, *, also: Sequence[Write] = ()) -> None:
        """Let a policy hold from now on; durable when it returns, with what is `also` to be.

        If it keeps fewer versions than before, the surplus goes soon.

        Raises:
            UnavailableError: the owner is being removed, or changes at this moment.
        """
        holds = self.steady(owner_of(bucket))
        key = _policy_key(bucket)
        writes: list[Write] = [Delete(key) if policy == NO_POLICY else Put(key, _encode(policy))]
        if policy.versions < self.policy(bucket).versions:
            due_us = self._clock.now_us() + TRIM_AFTER_S * 1_000_000
            writes.append(Put(catalog.due_key(Due(due_us, catalog.VERSION, bucket, "")), b""))
        self.commit(holds, *writes, *also)

    def set_owner(self, owner: Owner, *, also: Sequence[Write] = ()) -> tuple[bool, Owner]:
        """Let an owner have this quota and these limits from now on; durable when it returns.

        So is what is `also` to be. Also says whether the owner is new.

        Raises:
            UnavailableError: what an earlier owner of that name had is still being removed, or the
                owner changes at this moment.
        """
        holds = self.steady(owner.name)
        before = self.owner(owner.name)
        created_us = self._clock.now_us() if before is None else before.created_us
        kept = replace(owner, created_us=created_us)
        self.commit(holds, Put(owner_key(owner.name), _encode(kept)), *also)
        return before is None, kept

    def remove_owner(self, name: str, *, also: Sequence[Write] = ()) -> bool:
        """Let an owner's keys open nothing from now on; what there is of the owner goes soon.

        False if there is no such owner.
        """
        stored = self._kv.get(owner_key(name))
        if stored is None:
            return False
        row = owner_key(name)
        writes = (Delete(row), Put(leaving_key(name), b""), CHANGED, *also)
        outcome = self._kv.commit((Unchanged(row, stored.revision),), writes).result()
        return isinstance(outcome, Committed)

    def steady(self, owner: str) -> tuple[Compare, ...]:
        """What holds while an owner neither goes nor changes; to be asked for before all else.

        Raises:
            UnavailableError: what the owner had is being removed.
        """
        if owner == NOBODY:
            return ()
        if self._kv.get(leaving_key(owner)) is not None:
            raise leaving()
        stored = self._kv.get(owner_key(owner))
        revision = 0 if stored is None else stored.revision
        return Unchanged(leaving_key(owner), 0), Unchanged(owner_key(owner), revision)

    def commit(self, compares: Sequence[Compare], *writes: Write) -> None:
        """Commit a change of policies, owners or keys; durable when it returns.

        Raises:
            UnavailableError: `compares` do not hold any more.
        """
        outcome = self._kv.commit(compares, (*writes, CHANGED)).result()
        if not isinstance(outcome, Committed):
            raise UnavailableError("another change came at the same moment")

    def _read(self, bucket: str) -> Terms:
        policy = self.policy(bucket)
        name = owner_of(bucket)
        stored = self._kv.get(owner_key(name)) if name else None
        row = b"" if stored is None else stored.value
        owner = _decode(_owner, row, name) if row else NO_OWNER
        quotas = [
            Quota(catalog.usage_key(bucket), policy.quota_bytes, policy.quota_entries),
            Quota(catalog.owner_usage_key(name), owner.quota_bytes, owner.quota_entries),
        ]
        wanted = [one for one in quotas if (one.size_bytes, one.entries) != (None, None)]
        undelete_s = self._undelete_s if policy.undelete_s is None else policy.undelete_s
        guard = leaving_key(name) if owner is NO_OWNER else owner_key(name)
        quota_rows = (quota.row for quota in wanted)
        if not name:
            return Terms(policy, owner, wanted, undelete_s, rows=tuple(quota_rows))
        return Terms(policy, owner, wanted, undelete_s, guard, row, (guard, *quota_rows))


CHANGED: Write = Add(CHANGES, (1,))
"""Goes into every commit that changes a policy, an owner or a key."""


def commit_removal(kv: KV, removal: Sequence[Write], also: Sequence[Write]) -> None:
    """Commit what takes something away with what is `also` to be; on a full disk without that.

    Deletes are taken there, and nobody's right may last because there is no room to note its end.
    """
    try:
        kv.commit((), (*removal, *also)).result()
    except FullError:
        kv.commit((), removal).result()


def owner_key(name: str) -> bytes:
    """The row of an owner."""
    return OWNER + name.encode()


def leaving_key(name: str) -> bytes:
    """The row that says that what an owner had is to be removed."""
    return catalog.due_key(Due(0, catalog.OWNER, name, ""))


def leaving() -> UnavailableError:
    """Say that what an owner of this name had is still being removed."""
    return UnavailableError("an owner of this name is being removed", LEAVE_S)


def removed() -> DeniedError:
    """Say that there is nobody any more to whom something would belong."""
    return DeniedError("the owner of this bucket was removed")


def _policy_key(bucket: str) -> bytes:
    return POLICY + bucket.encode()


def _decode(decoder: Callable[[bytes], Value], value: bytes, name: str) -> Value:
    try:
        return decoder(value)
    except msgspec.DecodeError as error:
        raise CorruptError("a policy or an owner is damaged", name=name) from error
