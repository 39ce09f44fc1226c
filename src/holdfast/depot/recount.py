"""The catalog counted again: references and counters are what the entries make them.

Every change of an entry changes its reference and the counters of its bucket in the same commit, so
they can only differ after damage. Entries are what people wrote; the rest follows from them and is
put right by writing it again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.core.inspection import Finding
from holdfast.core.kv import Delete, Item, Put, add_counters, prefix_end
from holdfast.depot import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.entry import Entry
    from holdfast.core.kv import KV, Write

KIND = "catalog"


class Wrong(NamedTuple):
    """One key of the catalog that is not what the entries make it, and what puts it right."""

    finding: Finding
    writes: Sequence[Write]
    """None where nobody can know what should be there."""


def recount(kv: KV) -> Iterator[Wrong | int]:
    """Read the whole catalog of a store that nobody changes; yield what is wrong.

    In between it yields how many keys were read. It holds one page and the counters of all buckets.
    """
    counts: Counter[bytes] = Counter()
    sizes: Counter[bytes] = Counter()
    for page in pages(kv, catalog.ENTRY):
        for item in page:
            yield from _check_entry(kv, item, counts, sizes)
        yield len(page)
    for page in pages(kv, catalog.REFERENCE):
        for item in page:
            yield from _check_reference(kv, item)
        yield len(page)
    yield from _check_counters(kv, counts, sizes)


def _check_entry(
    kv: KV, item: Item, counts: Counter[bytes], sizes: Counter[bytes]
) -> Iterator[Wrong]:
    where = catalog.entry_name(item.key)
    bucket, _, key = item.key[len(catalog.ENTRY) :].partition(b"\x00")
    entry = decode(item)
    if entry is None:
        yield Wrong(Finding(KIND, where, "the entry cannot be read"), ())
        return
    counts[bucket] += 1
    sizes[bucket] += entry.size_bytes
    reference = catalog.held_by_entry(entry.digest, entry.bucket, key)
    stored = kv.get(reference)
    if stored is None or not _is_held(stored.value, entry):
        held = catalog.Held(entry.size_bytes, entry.content_type, entry.created_us)
        why = "the entry has no reference" if stored is None else "its reference is damaged"
        write = Put(reference, catalog.encode_held(held))
        yield Wrong(Finding(KIND, where, why, str(entry.digest)), [write])


def _check_reference(kv: KV, item: Item) -> Iterator[Wrong]:
    name = catalog.holder_name(item.key)
    digest = catalog.referenced_digest(item.key)
    entry_key = catalog.holding_entry(item.key)
    if entry_key is None:
        try:
            catalog.decode_held(item.value)
        except CorruptError:
            yield Wrong(Finding(KIND, name, "the hold cannot be read", str(digest)), ())
        return
    stored = kv.get(entry_key)
    entry = None if stored is None else decode(Item(entry_key, stored.value, stored.revision))
    if stored is not None and entry is None:
        return  # the entry was told already, and this may be all that is left of it
    if entry is None or entry.digest != digest:
        why = "a reference without its entry"
        yield Wrong(Finding(KIND, name, why, str(digest)), [Delete(item.key)])


def _check_counters(kv: KV, counts: Counter[bytes], sizes: Counter[bytes]) -> Iterator[Wrong]:
    for page in pages(kv, catalog.USAGE):
        for item in page:
            bucket = item.key[len(catalog.USAGE) :]
            yield from _check_counter(item.key, item.value, (counts.pop(bucket, 0), sizes[bucket]))
    for bucket in sorted(counts):
        key = catalog.USAGE + bucket
        yield from _check_counter(key, b"", (counts[bucket], sizes[bucket]))


def _check_counter(key: bytes, value: bytes, expected: tuple[int, int]) -> Iterator[Wrong]:
    wanted = add_counters(None, expected)
    if value != wanted:
        where = key[len(catalog.USAGE) :].decode(errors="replace")
        entries, size_bytes = expected
        why = f"the counters of the bucket are wrong: it has {entries} entries, {size_bytes} bytes"
        yield Wrong(Finding(KIND, where, why), [Put(key, wanted)])


def decode(item: Item) -> Entry | None:
    """Read an entry; None when that cannot be done."""
    bucket, _, key = item.key[len(catalog.ENTRY) :].partition(b"\x00")
    try:
        return catalog.decode_entry(bucket.decode(), key.decode(), item.value)
    except (CorruptError, UnicodeDecodeError):
        return None


def _is_held(value: bytes, entry: Entry) -> bool:
    try:
        return catalog.decode_held(value).size_bytes == entry.size_bytes
    except CorruptError:
        return False


def pages(kv: KV, prefix: bytes) -> Iterator[list[Item]]:
    """Yield all keys under a prefix."""
    start, end = prefix, prefix_end(prefix)
    while page := kv.scan(start, end, limit=limits.LIST_LIMIT_MAX):
        yield page
        start = page[-1].key + b"\x00"
