"""Recounts the catalog of a depot: references and counters are what the names make them."""

from collections import Counter
from collections.abc import Iterator

from holdfast.core.entry import Entry
from holdfast.core.kv import KV, Item, counters, prefix_end
from holdfast.core.limits import LIST_LIMIT_MAX
from holdfast.core.policy import owner_of
from holdfast.depot import catalog
from holdfast.depot.catalog import Due

ENTRIES, SIZES, VERSIONS, VERSION_SIZES = range(4)


def check_catalog(kv: KV) -> None:
    """Read every entry, and compare all that was derived from them when they were written."""
    references: set[bytes] = set()
    dues: set[bytes] = set()
    counts: Counter[tuple[bytes, int]] = Counter()
    for table in (catalog.ENTRY, catalog.GRAVE, catalog.VERSION):
        for item in _under(kv, table):
            entry = _read(table, item, dues)
            references.add(catalog.held_by_row(entry.digest, item.key))
            _count(table, entry, counts)
    for item in _under(kv, catalog.REFERENCE):
        holder = catalog.holder(item.key)
        assert holder.startswith(catalog.BY_CONTENT) or item.key in references, item
        references.discard(item.key)
        _count_hold(holder, catalog.decode_held(item.value), counts)
    assert not references, references
    found = {item.key for item in _under(kv, catalog.DUE)}
    names = {key for key in found if catalog.read_due(key).table in catalog.NAMES[:2]}
    assert names == dues, names ^ dues
    for table in (catalog.USAGE, catalog.OWNER_USAGE):
        for item in _under(kv, table):
            for place, value in enumerate(counters(item.value)):
                assert value == counts.pop((item.key, place), 0), item.key
    assert not +counts


def _read(table: bytes, item: Item, dues: set[bytes]) -> Entry:
    end = -1 - catalog.VERSION_BYTES if table == catalog.VERSION else None
    bucket, key = catalog.split_name(item.key[:end])
    if table == catalog.GRAVE:
        grave = catalog.decode_grave(bucket, key, item.value)
        dues.add(catalog.due_key(Due(grave.until_us, table, bucket, key)))
        return grave.entry
    entry = catalog.decode_entry(bucket, key, item.value)
    if table == catalog.ENTRY and entry.expires_us:
        dues.add(catalog.due_key(Due(entry.expires_us, table, bucket, key)))
    return entry


def _count(table: bytes, entry: Entry, counts: Counter[tuple[bytes, int]]) -> None:
    if table == catalog.GRAVE:
        return
    rows = [catalog.usage_key(entry.bucket)]
    if owner := owner_of(entry.bucket):
        rows.append(catalog.owner_usage_key(owner))
    is_entry = table == catalog.ENTRY
    for row in rows:
        counts[row, ENTRIES if is_entry else VERSIONS] += 1
        counts[row, SIZES if is_entry else VERSION_SIZES] += entry.size_bytes


def _count_hold(holder: bytes, held: catalog.Held, counts: Counter[tuple[bytes, int]]) -> None:
    owner = holder[1:].decode() if holder.startswith(catalog.BY_CONTENT) else ""
    if owner:
        for row in (catalog.usage_key(f"{owner}~"), catalog.owner_usage_key(owner)):
            counts[row, ENTRIES] += 1
            counts[row, SIZES] += held.size_bytes


def _under(kv: KV, prefix: bytes) -> Iterator[Item]:
    start, end = prefix, prefix_end(prefix)
    while page := kv.scan(start, end, limit=LIST_LIMIT_MAX):
        yield from page
        start = page[-1].key + b"\x00"
