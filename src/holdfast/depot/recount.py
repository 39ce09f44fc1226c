"""The catalog counted again: references, counters and what is due are what the names make them.

Every change of a name changes them in the same commit, so they can only differ after damage. Names
are what people wrote; the rest follows from them and is put right by writing it again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.errors import CorruptError
from holdfast.core.inspection import Finding
from holdfast.core.kv import COUNTER_BYTES, Delete, Item, Put, add_counters, counters, pages
from holdfast.core.policy import NOBODY, bucket_of
from holdfast.depot import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.kv import KV, Write
    from holdfast.depot.catalog import Row

KIND = "catalog"


class Wrong(NamedTuple):
    """One key of the catalog that is not what the names make it, and what puts it right."""

    finding: Finding
    writes: Sequence[Write]
    """None where nobody can know what should be there."""


class Counts:
    """What the counters should say, for each row of them."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Counter[int]] = {}

    def add(self, row: Row) -> None:
        """Count a name."""
        self._add(row.entry.bucket, catalog.deltas(row))

    def add_hold(self, owner: str, size_bytes: int) -> None:
        """Count what an owner holds by the content face."""
        if owner != NOBODY:
            self._add(bucket_of(owner, ""), (1, size_bytes, 0, 0))

    def _add(self, bucket: str, deltas: tuple[int, ...]) -> None:
        if not any(deltas):
            return
        for key in catalog.usage_rows(bucket):
            counter = self.rows.setdefault(key, Counter())
            for place, delta in enumerate(deltas):
                counter[place] += delta

    def pop(self, key: bytes) -> tuple[int, ...]:
        """What a row of counters should say."""
        counter = self.rows.pop(key, Counter())
        return tuple(counter[place] for place in range(catalog.COUNTERS))


def recount(kv: KV) -> Iterator[Wrong | int]:
    """Read the whole catalog of a store that nobody changes; yield what is wrong.

    In between it yields how many keys were read. It holds one page and the counters of all buckets.
    """
    counts = Counts()
    checks = [(table, _check_name) for table in catalog.NAMES]
    for table, check in (*checks, (catalog.REFERENCE, _check_reference), (catalog.DUE, _check_due)):
        for page in pages(kv, table):
            for item in page:
                yield from check(kv, item, counts)
            yield len(page)
    yield from _check_counters(kv, counts)


def _check_name(kv: KV, item: Item, counts: Counts) -> Iterator[Wrong]:
    where = catalog.row_name(item.key)
    row = decode(item)
    if row is None:
        yield Wrong(Finding(KIND, where, "the entry cannot be read"), ())
        return
    entry = row.entry
    counts.add(row)
    reference = catalog.held_by_row(entry.digest, item.key)
    stored = kv.get(reference)
    if stored is None or not _is_held(stored.value, entry.size_bytes):
        why = "the entry has no reference" if stored is None else "its reference is damaged"
        write = Put(reference, catalog.encode_held(catalog.held(entry)))
        yield Wrong(Finding(KIND, where, why, str(entry.digest)), [write])
    due = catalog.due_of(row)
    if due is not None and kv.get(catalog.due_key(due)) is None:
        why = "nothing says when it goes"
        yield Wrong(Finding(KIND, where, why), [Put(catalog.due_key(due), b"")])


def _check_due(kv: KV, item: Item, counts: Counts) -> Iterator[Wrong]:
    del counts
    due = catalog.read_due(item.key)
    if due.table not in {catalog.ENTRY, catalog.GRAVE}:
        return  # too many versions, or an owner who left: whoever finds them gone does nothing
    key = catalog.name_key(due.table, due.bucket, due.key.encode())
    stored = kv.get(key)
    row = None if stored is None else decode(Item(key, stored.value, stored.revision))
    if stored is not None and row is None:
        return  # the entry was told already
    if row is None or catalog.due_of(row) != due:
        why = "a time is kept at which nothing is due"
        yield Wrong(Finding(KIND, catalog.row_name(key), why), [Delete(item.key)])


def _check_reference(kv: KV, item: Item, counts: Counts) -> Iterator[Wrong]:
    name = catalog.holder_name(item.key)
    digest = catalog.referenced_digest(item.key)
    key = catalog.holding_row(item.key)
    if key is None:
        try:
            held = catalog.decode_held(item.value)
        except CorruptError:
            yield Wrong(Finding(KIND, name, "the hold cannot be read", str(digest)), ())
        else:
            counts.add_hold(catalog.holding_owner(item.key), held.size_bytes)
        return
    stored = kv.get(key)
    row = None if stored is None else decode(Item(key, stored.value, stored.revision))
    if stored is not None and row is None:
        return  # the entry was told already, and this may be all that is left of it
    if row is None or row.entry.digest != digest:
        why = "a reference without its entry"
        yield Wrong(Finding(KIND, name, why, str(digest)), [Delete(item.key)])


def _check_counters(kv: KV, counts: Counts) -> Iterator[Wrong]:
    for table in (catalog.USAGE, catalog.OWNER_USAGE):
        for page in pages(kv, table):
            for item in page:
                yield from _check_counter(item.key, item.value, counts.pop(item.key))
    for key in sorted(counts.rows):
        yield from _check_counter(key, b"", counts.pop(key))


def _check_counter(key: bytes, value: bytes, expected: tuple[int, ...]) -> Iterator[Wrong]:
    found = counters(value) if len(value) % COUNTER_BYTES == 0 else ()
    if (*found, *(0 for _ in expected))[: max(len(found), len(expected))] != expected:
        where = key[1:].decode(errors="replace")
        entries, size_bytes, *_ = expected
        why = f"the counters of the bucket are wrong: it has {entries} entries, {size_bytes} bytes"
        yield Wrong(Finding(KIND, where, why), [Put(key, add_counters(None, expected))])


def decode(item: Item) -> Row | None:
    """Read a row that names a blob; None when that cannot be done."""
    try:
        return catalog.decode_row(item.key, item.value)
    except (CorruptError, UnicodeDecodeError):
        return None


def _is_held(value: bytes, size_bytes: int) -> bool:
    try:
        return catalog.decode_held(value).size_bytes == size_bytes
    except CorruptError:
        return False
