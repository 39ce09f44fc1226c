"""The tables of a shard, and every statement that is said to them."""

FORMAT = 1
APPLICATION_ID = 0x48465344  # HFSD
PAGE_BYTES = 4096

SCHEMA = (
    f"PRAGMA page_size = {PAGE_BYTES}",
    "PRAGMA auto_vacuum = INCREMENTAL",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL) STRICT",
    (
        "CREATE TABLE rows (key BLOB PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL,"
        " sum INTEGER NOT NULL) STRICT, WITHOUT ROWID"
    ),
    (
        "CREATE TABLE undo (key BLOB PRIMARY KEY, epoch INTEGER NOT NULL, revision INTEGER,"
        " value BLOB, sum INTEGER) STRICT, WITHOUT ROWID"
    ),
    (
        "CREATE TABLE history (revision INTEGER, key BLOB, value BLOB, sum INTEGER NOT NULL,"
        " PRIMARY KEY (revision, key)) STRICT, WITHOUT ROWID"
    ),
    (
        "CREATE TABLE chunks (place INTEGER PRIMARY KEY, sum INTEGER NOT NULL, data BLOB NOT NULL)"
        " STRICT"
    ),
)

PRAGMAS = 4
"""Of these, said outside of the transaction that makes the tables."""

# What the one connection does that writes
PUT_META = "INSERT INTO meta (name, value) VALUES (?, ?)"
META = "SELECT name, value FROM meta"
TEXTS = "SELECT sql FROM sqlite_schema WHERE type = 'table'"
"""Those of the schema as they lie in the file, where no checksum covers them."""
PUT_STATE = "INSERT OR REPLACE INTO state (id, value) VALUES (1, ?)"
STATE = "SELECT value FROM state WHERE id = 1"
ROW = "SELECT revision, value, sum FROM rows WHERE key = ?"
PUT_ROW = "INSERT OR REPLACE INTO rows (key, revision, value, sum) VALUES (?, ?, ?, ?)"
DELETE_ROW = "DELETE FROM rows WHERE key = ?"
KEYS = "SELECT key FROM rows WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
CLEAR_UNDO = "DELETE FROM undo"
PUT_UNDO = "INSERT INTO undo (key, epoch, revision, value, sum) VALUES (?, ?, ?, ?, ?)"
KEEP_ROW = (
    "INSERT INTO undo (key, epoch, revision, value, sum)"
    " SELECT ?1, ?2, revision, value, sum FROM (SELECT 1) LEFT JOIN rows ON key = ?1"
)
UNDONE_ROWS = (
    "INSERT OR REPLACE INTO rows (key, revision, value, sum)"
    " SELECT key, revision, value, sum FROM undo WHERE value IS NOT NULL AND key != x''"
)
UNDONE_KEYS = "DELETE FROM rows WHERE key IN (SELECT key FROM undo WHERE value IS NULL)"
UNDO_STATE = "SELECT epoch, value FROM undo WHERE key = x''"
UNDO_EPOCH = "SELECT epoch FROM undo WHERE key = ?"
PUT_CHANGE = "INSERT OR REPLACE INTO history (revision, key, value, sum) VALUES (?, ?, ?, ?)"
FORGET_CHANGES = "DELETE FROM history WHERE revision < ?"
UNDONE_CHANGES = "DELETE FROM history WHERE revision > ?"
PUT_CHUNK = "INSERT INTO chunks (place, sum, data) VALUES (?, ?, ?)"
DELETE_CHUNK = "DELETE FROM chunks WHERE place = ?"
PLACES = "SELECT place FROM chunks WHERE place >= ? AND place < ? ORDER BY place LIMIT ?"
LAST_PLACE = "SELECT max(place) FROM chunks"
VACUUM = "PRAGMA incremental_vacuum(1)"
"""One page: Python takes one step of a PRAGMA, whatever number it is given."""
FREE_PAGES = "PRAGMA freelist_count"
CHECK = "PRAGMA integrity_check(100)"
ALL_ROWS = "SELECT key, revision, value, sum FROM rows WHERE key > ? ORDER BY key LIMIT ?"
ENDING = (
    "SELECT key, revision, value, sum FROM rows WHERE key >= ? AND key < ? AND substr(key, ?) = ?"
)
LAST_CHANGE = (
    "SELECT revision, value, sum FROM history WHERE key = ? ORDER BY revision DESC LIMIT 1"
)
PAGE = "SELECT key, revision, value, sum FROM rows WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
NOTES = "CREATE TABLE notes (home INTEGER, id INTEGER, PRIMARY KEY (home, id)) WITHOUT ROWID"
NOTE = "INSERT OR IGNORE INTO notes (home, id) VALUES (?, ?)"
NOTED = "SELECT 1 FROM notes WHERE home = ? AND id = ?"
CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
CHECKPOINT_ALL = "PRAGMA wal_checkpoint(TRUNCATE)"

# What readers ask
FIND = (
    "SELECT NULL, revision, value, sum FROM rows WHERE key = ?1"
    " UNION ALL SELECT epoch, revision, value, sum FROM undo WHERE key = ?1"
)
UNDONE = "SELECT key, epoch, revision, value, sum FROM undo WHERE key >= ? AND key < ?"
RANGE = "SELECT key, revision, value, sum FROM rows WHERE key >= ? AND key < ? ORDER BY key"
RANGE_BACK = RANGE + " DESC"
CHUNK = "SELECT sum, data FROM chunks WHERE place = ?"
SIZES = "SELECT coalesce(sum(length(data)), 0) FROM chunks WHERE place >= ? AND place < ?"
CHANGES = (
    "SELECT revision, key, value, sum FROM history WHERE revision >= ? AND revision < ?"
    " ORDER BY revision, key"
)
