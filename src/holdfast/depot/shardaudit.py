"""What fsck asks of shards at rest: their pages, rows and chunks.

A damaged row of the catalog is put right where that can be proved (shards/checking). What follows
from the names is counted again without it. Of an entry, its reference still says which bytes it
has: that is as much as can be known. Anything else is only let go if somebody says so.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.digest import DIGEST_BYTES
from holdfast.core.entry import Entry
from holdfast.core.errors import CorruptError
from holdfast.core.inspection import Finding
from holdfast.core.kv import prefix_end
from holdfast.depot import catalog, policies
from holdfast.depot.audit import Wrong
from holdfast.depot.keys import KEY as API_KEY
from holdfast.shards import tables
from holdfast.shards.checking import check
from holdfast.shards.rows import BLOB, KEY, row_sum
from holdfast.shards.unnamed import hashed, unnamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.shards.checking import Found
    from holdfast.shards.shards import Shards
    from holdfast.shards.unnamed import Unnamed

KIND = "shard"
NAMED = {
    catalog.ENTRY: "entry",
    catalog.GRAVE: "deleted name",
    catalog.VERSION: "version",
    catalog.REFERENCE: "reference of",
    catalog.USAGE: "counters of bucket",
    catalog.OWNER_USAGE: "counters of owner",
    catalog.OWNER: "owner",
    policies.POLICY: "policy of bucket",
    API_KEY: "API key",
}
"""The tables whose rows people know by a name."""
KEY_SHOWN_BYTES = 100
HOLDER_AT = 1 + len(KEY + catalog.REFERENCE) + DIGEST_BYTES
"""Where in the row of a reference its holder begins, as SQL counts."""


Change = tuple[bytes, bytes | None]
"""A key of the catalog, and what it has from now on; None: nothing."""


class _Lost(NamedTuple):
    """What can be said of a damaged row that nothing proves."""

    advice: str
    change: Change | None = None
    """What is done without asking; None where only somebody who says so lets it go."""
    digest: str = ""


class ShardGround:
    """Shards that are open for this process alone."""

    def __init__(self, shards: Shards, *, is_encoded: bool) -> None:
        """Look at `shards`; chunks that are encoded do not say which blob they are."""
        self._shards = shards
        self._is_encoded = is_encoded

    def index(self) -> Iterator[Wrong | int]:
        """Let SQLite check its pages; hold rows to their checksums, and to the shard they are in.

        A row that nothing proves comes with what follows from the rest of the catalog, or with
        nothing.
        """
        for found in check(self._shards):
            if isinstance(found, int):
                yield found
            elif found.mend is not None or not found.is_damaged:
                yield Wrong(_finding(found), found.mend)
            else:
                lost = self._lost(found)
                mend = partial(self._change, lost.change) if lost.change else None
                yield Wrong(_finding(found, lost), mend)

    def lost(self) -> Iterator[Wrong | int]:
        """Look for damaged rows that nothing puts right; to mend is to forget them."""
        for found in check(self._shards):
            if isinstance(found, int):
                yield found
            elif found.is_damaged and found.mend is None:
                yield Wrong(_finding(found), partial(self._forget, found))

    def record(self, finding: Finding) -> Wrong:
        """Nobody knows how: what the row said is told by `index`."""
        return Wrong(finding, None)

    def can_read(self, region: str) -> bool:
        """Whether a shard can be read, which it is."""
        del region
        return True

    def retire(self, region: str) -> bool:
        """Refuse: a store has all of its shards."""
        del region
        return False

    def leftovers(self) -> Iterator[Wrong]:
        """Look for chunks that no blob has; other files in the folder are nobody's business."""
        try:
            yield from self._unnamed()
        except CorruptError as error:  # pages that cannot be followed, which `index` tells, too
            yield Wrong(Finding(KIND, "chunks", error.message), None)

    def _unnamed(self) -> Iterator[Wrong]:
        for each in unnamed(self._shards):
            where = f"{each.shard.path.name} chunks {each.id}"
            ref = None if self._is_encoded else hashed(each)
            if ref is not None and self._is_lost(ref.digest):
                why = f"the row is gone that says that these are {ref.digest}"
                finding = Finding(KIND, where, why, str(ref.digest))
                yield Wrong(finding, partial(self._name, each, ref))
            else:
                mend = None if self._is_encoded else partial(self._remove, each)
                yield Wrong(Finding("leftover", where, "no blob has them"), mend)

    def _lost(self, found: Found) -> _Lost:
        """See what the rest of the catalog says about a damaged row."""
        key = found.key[len(KEY) :]
        if found.key[:1] == KEY and _follows(key):
            return _Lost("it follows from the names", (key, None))
        entry = self._recalled(found, key) if found.key[:2] == KEY + catalog.ENTRY else None
        if entry is None:
            return _Lost(
                "nothing says what it was: restore a backup, or let it go with --forget-missing and"
                " make it again"
            )
        return _Lost(
            f"its reference says that it is {entry.digest}; what else was said of it is lost",
            (key, catalog.encode_entry(entry)),
            str(entry.digest),
        )

    def _recalled(self, found: Found, row: bytes) -> Entry | None:
        """The entry, as far as the one reference that it has tells it."""
        start = KEY + catalog.REFERENCE
        held = [
            (key, value)
            for key, revision, value, total in found.shard.ask(
                tables.ENDING, start, prefix_end(start), HOLDER_AT, row
            )
            if row_sum(key, revision, value) == total
        ]
        if len(held) != 1:
            return None
        ((key, value),) = held
        try:
            bucket, name = catalog.split_name(row)
            said = catalog.decode_held(value)
        except (CorruptError, UnicodeDecodeError):
            return None
        digest = catalog.referenced_digest(key[len(KEY) :])
        times_us = (said.since_us, said.since_us)
        return Entry(bucket, name, digest, said.size_bytes, said.content_type, *times_us, 0, {}, 0)

    def _forget(self, found: Found) -> bool:
        if found.key[:1] == KEY:
            return self._change((found.key[len(KEY) :], None))
        return found.shard.put_back({found.key: None})

    def _is_lost(self, digest: Digest) -> bool:
        """Whether nothing says where the blob is; if nobody has it either, a sweep removes it."""
        number = self._shards.routing.digest(digest)
        return self._shards.reading.unproved(number, BLOB + digest) is None

    def _name(self, chunks: Unnamed, ref: BlobRef) -> bool:
        """Say again which blob the chunks are, which their digest has proved."""
        home = chunks.shard.number
        self._shards.submit(lambda epoch: epoch.take(ref, home, chunks.id), 0).result()
        return True

    def _remove(self, chunks: Unnamed) -> bool:
        chunks.shard.write_chunks([], chunks.id)
        self._shards.workers[chunks.shard.number].collect(chunks.id)
        return True

    def _change(self, change: Change) -> bool:
        """Commit it, whatever the row is that it replaces."""
        self._shards.submit(lambda epoch: epoch.add_commit([change]), 0, frees=True).result()
        return True


def _follows(key: bytes) -> bool:
    """Whether a row of the catalog is what the names make it, and is written again without it."""
    if key[:1] == catalog.REFERENCE:
        return catalog.holder(key)[:1] in catalog.NAMES
    if key[:1] == catalog.DUE:
        return key[1 + catalog.TIME_BYTES :][:1] in {catalog.ENTRY, catalog.GRAVE}
    return key[:1] in {catalog.USAGE, catalog.OWNER_USAGE}


def _finding(found: Found, lost: _Lost | None = None) -> Finding:
    where = f"{found.shard.path.name} {_name(found.key)}".strip()
    why = found.why if lost is None else f"{found.why}; {lost.advice}"
    return Finding(KIND, where, why, "" if lost is None else lost.digest)


def _name(row: bytes) -> str:
    """What people call a row; hex where they have no name for it."""
    table, key = row[:1], row[1:]
    if not row:
        return ""
    what = NAMED.get(key[:1], "") if table == KEY else ""
    is_cut = key[:1] == catalog.REFERENCE and len(key) <= 1 + DIGEST_BYTES
    if not what or is_cut:
        return f"row {row[:KEY_SHOWN_BYTES].hex()}"
    if key[:1] in catalog.NAMES:
        return f"{what} {catalog.row_name(key)}"
    if key[:1] == catalog.REFERENCE:
        return f"{what} {catalog.holder_name(key)}"
    return f"{what} {key[1:].decode(errors='replace')}"
