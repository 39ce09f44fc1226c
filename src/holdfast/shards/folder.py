"""The folder of the shards: who they are, and whether all of them are here.

DIR/HOLDFAST         which engine, which format, the store's id and its number of shards
DIR/lock             held while a process has the shards open
DIR/shard_<i>.db     one shard
DIR/reserve          space for deletes on a full disk

Every shard says again whose it is and how keys find it, so that one that is missing, belongs to
another store or has another one's name is found out before anything is served. Other files are
nobody's business. HOLDFAST is written last: without it, the shards hold nothing yet.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from holdfast.core import limits
from holdfast.core.errors import BlobError, CorruptError, InvalidError, UnsupportedError
from holdfast.core.marker import MOVING_FORMAT, NAME, SQLITE, about_of, damaged, write_marker
from holdfast.shards import tables
from holdfast.shards.connection import connect, text_of, world
from holdfast.shards.routing import FNV, WHOLE, Layout, Routing
from holdfast.shards.rows import State, pack_state, read_state

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Disk, Entropy

FORMAT = 3
"""Of the file HOLDFAST; the engine with a log has had 1 and 2."""
SHARD = re.compile(r"shard_(0|[1-9][0-9]*)\.db")
BESIDE = re.compile(r"shard_[0-9]+\.db-(wal|shm|journal)")


class Shape(NamedTuple):
    """What shards are to be; 0 and an empty hash: as they are, where they exist."""

    shards: int = 0
    hash_name: str = ""
    layout: Layout = WHOLE


COUNT = 4  # of a new store, unless it says


class _Marker(msgspec.Struct):
    """The content of DIR/HOLDFAST."""

    format: int
    engine: str
    id: str
    shards: Annotated[int, msgspec.Meta(ge=1)]


class Folder:
    """The files, for whoever opens them; under the lock."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk

    def shard_path(self, number: int) -> Path:
        """Where a shard lies."""
        return self.path / f"shard_{number}.db"

    def open(self, shape: Shape, entropy: Entropy) -> tuple[str, Routing]:
        """Find the shards, or make them; say the store's id and how keys find their shard.

        Raises:
            InvalidError: the store has another number of shards, another hash or another layout.
            CorruptError: a shard is missing, or not the one that belongs here.
            UnsupportedError: another engine's folder, or a newer format.
        """
        marker = self._read_marker()
        if marker is None:
            return self._create(shape, entropy)
        found = [self._meta(number, marker.id) for number in range(marker.shards)]
        self._check_alike(found)
        _check_shape(self.path, shape, marker.shards, found[0])
        return marker.id, Routing(marker.shards, found[0]["hash"], shape.layout)

    # What is there

    def _read_marker(self) -> _Marker | None:
        if not (self.path / NAME).exists():
            return None
        about = about_of(self.path)
        if about.get("engine") != SQLITE:
            raise UnsupportedError(
                f"{self.path} holds a store of another engine: open it by its path"
            )
        if about.get("format") not in {FORMAT, MOVING_FORMAT}:
            raise UnsupportedError(f"format {about.get('format')} is newer than this holdfast")
        try:
            return msgspec.convert(about, _Marker)
        except msgspec.ValidationError as error:
            raise damaged(self.path) from error

    def _meta(self, number: int, store_id: str) -> dict[str, str]:
        """What a shard says of itself.

        Raises:
            CorruptError: it is not there, or is not this one.
        """
        path = self.shard_path(number)
        if not path.is_file() or path.is_symlink():
            raise CorruptError(
                f"{path.name} is missing from {self.path}: put it back, or restore all shards from"
                " one backup",
                shard=number,
            )
        with world("opening", path.name), closing(connect(path, writes=True)) as database:
            application = database.execute("PRAGMA application_id").fetchone()[0]
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if application != tables.APPLICATION_ID:
                raise CorruptError(f"{path.name} is no shard of holdfast's", shard=number)
            if version != tables.FORMAT:
                raise UnsupportedError(f"{path.name} has format {version}, which is newer")
            texts = {text_of(text) for (text,) in database.execute(tables.TEXTS)}
            if not texts.issuperset(tables.SCHEMA[tables.PRAGMAS :]):
                raise CorruptError(f"the schema of {path.name} is damaged", shard=number)
            found = database.execute(tables.META).fetchall()
            meta = {text_of(name): text_of(value) for name, value in found}
        if meta.get("store") != store_id:
            raise CorruptError(f"{path.name} belongs to another store", shard=number)
        if meta.get("number") != str(number):
            raise CorruptError(
                f"{path.name} is shard {meta.get('number')} of this store: files were swapped",
                shard=number,
            )
        return meta

    def _check_alike(self, found: list[dict[str, str]]) -> None:
        for number, meta in enumerate(found):
            for name in ("shards", "hash", "layout"):
                if meta.get(name) != found[0].get(name) or meta.get("shards") != str(len(found)):
                    raise CorruptError(
                        f"{self.shard_path(number).name} disagrees about {name}", shard=number
                    )

    # A new store

    def _create(self, shape: Shape, entropy: Entropy) -> tuple[str, Routing]:
        count = shape.shards or COUNT
        if not 1 <= count <= limits.SHARDS_MAX:
            raise InvalidError("shards", count, f"from 1 to {limits.SHARDS_MAX}")
        routing = Routing(count, shape.hash_name or FNV, shape.layout)
        if (self.path / "log").exists():
            raise UnsupportedError(f"{self.path} holds a store of another engine")
        self._remove_unfinished()
        store_id = entropy.random_bytes(16).hex()
        with world("making", "shards"):
            for number in range(count):
                self._make(number, store_id, routing)
            self._disk.sync_directory(self.path)
            write_marker(self.path, _Marker(FORMAT, SQLITE, store_id, count), self._disk)
        return store_id, routing

    def _remove_unfinished(self) -> None:
        """Remove what a crash has left of shards that were being made.

        Raises:
            CorruptError: there is something in one of them.
        """
        for path in sorted(self.path.iterdir()):
            if SHARD.fullmatch(path.name) is None:
                continue
            if not _is_empty(path):
                raise CorruptError(
                    f"{path.name} is not of a new store, but the file HOLDFAST is not in"
                    f" {self.path}: put it back; Blobnom's shards are taken over by"
                    " `holdfast import blobnom`"
                )
            self._disk.unlink(path)
        for path in sorted(self.path.iterdir()):
            if BESIDE.fullmatch(path.name) is not None:
                self._disk.unlink(path)

    def _make(self, number: int, store_id: str, routing: Routing) -> None:
        path = self.shard_path(number)
        self._disk.close(self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        about = {
            "store": store_id,
            "number": str(number),
            "shards": str(routing.count),
            "hash": routing.hash_name,
            "layout": routing.layout.name,
        }
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
            for statement in tables.SCHEMA[: tables.PRAGMAS]:
                database.execute(statement)
            database.execute("BEGIN IMMEDIATE")
            for statement in tables.SCHEMA[tables.PRAGMAS :]:
                database.execute(statement)
            database.executemany(tables.PUT_META, about.items())
            first = State(before=[0] * routing.count)
            database.execute(tables.PUT_STATE, (pack_state(first),))
            self._disk.commit(database)


def _is_empty(path: Path) -> bool:
    """Whether a file is a shard, or was going to be one, and nothing was ever committed to it."""
    if path.stat().st_size == 0:
        return True
    try:
        with world("opening", path.name), closing(connect(path, writes=True)) as database:
            if not database.execute("SELECT 1 FROM sqlite_schema").fetchall():
                return True
            found = database.execute(tables.STATE).fetchall()
    except BlobError:
        return False
    state = read_state(found[0][0]) if found else State()
    return state is not None and state.epoch == 0


def _check_shape(path: Path, shape: Shape, count: int, meta: dict[str, str]) -> None:
    how = f"`holdfast reshard {path} NEW` makes a copy that has"
    if shape.shards not in {0, count}:
        raise InvalidError("shards", shape.shards, f"{path} has {count}, and {how} others")
    if shape.hash_name not in {"", meta["hash"]}:
        raise InvalidError("hash", shape.hash_name, f"{path} has {meta['hash']}, and {how} another")
    if meta["layout"] != shape.layout.name:
        raise UnsupportedError(
            f"{path} routes its keys by {meta['layout']}, and here they are by {shape.layout.name}"
        )
