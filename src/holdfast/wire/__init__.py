"""HTTP as data: the JSON, headers and paths of docs/http.md, without any I/O.

The server and both clients share this package, so that each spelling has one definition. Writers
take values of core and give bytes; readers take what came from a peer that may be old, broken or
hostile, and raise a BlobError rather than guess.
"""

from holdfast.wire.documents import (
    encode_entry,
    entry_json,
    hash_page_json,
    page_json,
    parse_entry,
    parse_hash_page,
    parse_page,
    parse_stats,
    stats_json,
)
from holdfast.wire.failures import (
    RETRY_AFTER_S_MAX,
    encode_error,
    error_json,
    parse_error,
    retry_after_s,
)
from holdfast.wire.headers import (
    COPY_FROM,
    DEFAULT_BUCKET,
    METADATA_PREFIX,
    MOVE_FROM,
    blob_path,
    bucket_path,
    hash_path,
    metadata_headers,
    parse_digest,
    parse_metadata,
    repr_digest,
    source_name,
)

__all__ = [
    "COPY_FROM",
    "DEFAULT_BUCKET",
    "METADATA_PREFIX",
    "MOVE_FROM",
    "RETRY_AFTER_S_MAX",
    "blob_path",
    "bucket_path",
    "encode_entry",
    "encode_error",
    "entry_json",
    "error_json",
    "hash_page_json",
    "hash_path",
    "metadata_headers",
    "page_json",
    "parse_digest",
    "parse_entry",
    "parse_error",
    "parse_hash_page",
    "parse_metadata",
    "parse_page",
    "parse_stats",
    "repr_digest",
    "retry_after_s",
    "source_name",
    "stats_json",
]
