"""Made the store beside it, of format 2: moved and dropped records, hints, both kinds of blobs.

    python tests/data/golden-2/make.py NEW_FOLDER

What is released is never made again: a release that cannot read this store is broken.
"""

import json
import shutil
import sys
from pathlib import Path

from holdfast.core import limits
from holdfast.core.bucket import Bucket, Description
from holdfast.core.digest import Digest
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot

BUCKETS = ("default", "other.bucket")


def fill(bucket: Bucket) -> None:
    """Use every verb, over more than one segment."""
    for number in range(8):
        about = Description("text/plain; charset=utf-8", {"number": f"{number}", "name": "ümlaut"})
        bucket.put(f"notes/{number}.txt", b"note %d\n" % number * 30, about=about)
    bucket.put("notes/3.txt", b"replaced")
    bucket.put("empty", b"")
    bucket.put("k" * limits.KEY_BYTES_MAX, b"a key of 1,024 bytes")
    bucket.put("k" * (limits.KEY_BYTES_MAX - 1) + "!", b"and its neighbour")
    bucket.put("large", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    bucket.copy("notes/1.txt", "copied/ключ 1", to_bucket=BUCKETS[1])
    bucket.move("notes/2.txt", "moved")
    bucket.delete("notes/4.txt")
    bucket.content.put(b"held by its digest alone")
    bucket.content.put(b"note 5\n" * 30)
    bucket.content.delete(bucket.content.put(b"let go"))


def describe(bucket: Bucket) -> dict[str, object]:
    """Everything that can be read."""
    entries = [
        {
            "bucket": entry.bucket,
            "key": entry.key,
            "digest": str(entry.digest),
            "size_bytes": entry.size_bytes,
            "content_type": entry.content_type,
            "created_us": entry.created_us,
            "modified_us": entry.modified_us,
            "version": entry.version,
            "metadata": dict(entry.metadata),
        }
        for name in BUCKETS
        for entry in bucket.bucket(name).entries()
    ]
    stats = bucket.stats()
    digests = [str(digest) for digest in bucket.content.list(limit=1000).digests]
    return {
        "entries": entries,
        "content": digests,
        "stats": [stats.entries, stats.entry_bytes, stats.revision],
    }


def main(folder: Path) -> None:
    """Make the store, its description, and nothing that can be made again."""
    limits.SEGMENT_BYTES_MAX, limits.BATCH_BYTES_MAX = 6000, 3000
    limits.SEGMENT_ALLOCATE_BYTES = limits.RESERVE_BYTES = 1024
    limits.COMPACT_DEAD_BYTES_MIN = 100
    with open_depot(folder, Limits(small_blob_bytes_max=1000)) as depot:
        fill(depot)
        gone = Digest.of(b"let go")
        depot.engine.store.remove([gone])
        for _ in depot.engine.compact(0.3):
            pass
        fill(depot)
        for _ in depot.engine.make_hints():
            pass
        expected = describe(depot)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    shutil.rmtree(folder / "index")
    shutil.rmtree(folder / "files" / "tmp")
    (folder / "lock").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
