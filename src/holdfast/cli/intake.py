"""Rows of Blobnom on their way into a store, small ones together: they share one sync."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from holdfast.cli.adopted import REFUSED
from holdfast.core import limits
from holdfast.core.bucket import Description, Item
from holdfast.core.errors import BlobError, PreconditionError
from holdfast.core.progress import Phase
from holdfast.core.seams import SystemClock
from holdfast.stores import blobnom

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from holdfast.cli.adopted import Adopted
    from holdfast.core.bucket import Bucket
    from holdfast.core.preconditions import Conditions

IMPORTING = "importing"
SECOND_US = 1_000_000
EXPIRED = 0


def take_rows(
    files: Sequence[Path], when: Conditions, bucket: Bucket, adopted: Adopted
) -> Iterator[Phase]:
    """Put every row of these files under its key, unless its time is over, or not `when` it is so.

    Say behind each how far it is.

    Raises:
        BlobError: the store refuses more than one of them; an import may be repeated.
    """
    intake = _Intake(bucket, adopted, when)
    total = blobnom.count_rows(files)
    for number, found in enumerate(blobnom.scan(files), 1):
        if isinstance(found, blobnom.Broken):
            adopted.refuse(found.path.name, found.what)
        else:
            intake.take(found)
        yield Phase(IMPORTING, number, total, "rows")
    intake.settle()


class _Intake:
    """What waits to be stored together."""

    def __init__(self, bucket: Bucket, adopted: Adopted, when: Conditions) -> None:
        self._bucket = bucket
        self._adopted = adopted
        self._when = when
        self._waiting: dict[str, list[Item]] = {}
        self._count = self._size_bytes = 0

    def take(self, found: blobnom.Blob) -> None:
        """Store one row, now or together with others."""
        expire_s = _expire_s(found)
        if expire_s == EXPIRED:
            self._adopted.expired += 1
            return
        about = Description(expire_s=expire_s)
        try:
            where = self._where(found.namespace)
            if found.size_bytes > limits.SMALL_BLOB_BYTES_MAX:
                with closing(found.chunks()) as chunks:
                    entry = where.put(found.key, chunks, about=about, when=self._when)
                self._adopted.add(entry.size_bytes)
            else:
                data = b"".join(found.chunks())
                self._wait(found.namespace, Item(found.key, data, about, self._when))
                self._size_bytes += found.size_bytes
        except PreconditionError:
            self._adopted.kept += 1
        except REFUSED as error:
            self._adopted.refuse(found.key, error.message)
        except sqlite3.Error as error:
            self._adopted.refuse(found.key, str(error))
        if self._count == limits.BATCH_REFS_MAX or self._size_bytes > limits.BATCH_BYTES_MAX:
            self.settle()

    def settle(self) -> None:
        """Store what waits.

        Raises:
            BlobError: as `take_rows`.
        """
        waiting, self._waiting, self._count, self._size_bytes = self._waiting, {}, 0, 0
        for namespace, items in waiting.items():
            outcomes = self._where(namespace).put_many(items)
            for item, outcome in zip(items, outcomes, strict=True):
                if isinstance(outcome, PreconditionError):
                    self._adopted.kept += 1
                elif isinstance(outcome, REFUSED):
                    self._adopted.refuse(item.key, outcome.message)
                elif isinstance(outcome, BlobError):
                    raise outcome
                else:
                    self._adopted.add(outcome.size_bytes)

    def _wait(self, namespace: str, item: Item) -> None:
        self._waiting.setdefault(namespace, []).append(item)
        self._count += 1

    def _where(self, namespace: str) -> Bucket:
        return self._bucket.bucket(namespace) if namespace else self._bucket


def _expire_s(found: blobnom.Blob) -> int | None:
    """In how many seconds a row goes by itself, if ever; EXPIRED when it should have gone."""
    if found.expires_s is None:
        return None
    return max(EXPIRED, math.ceil(found.expires_s - SystemClock().now_us() / SECOND_US))
