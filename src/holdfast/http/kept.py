"""What is kept of names that were deleted or replaced: to be listed, and brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast import wire
from holdfast.core.digest import Digest
from holdfast.core.errors import InvalidError
from holdfast.http import route
from holdfast.http.message import Answer, Request, conditions, json_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.core.entry import Entry
    from holdfast.depot.depot import Depot
    from holdfast.http.route import Target


def look(bucket: Depot, target: Target, asked: Mapping[str, str]) -> Answer:
    """List deleted names of a bucket, or the versions of one name.

    Raises:
        BlobError: as the request or the store has it.
    """
    cursor, limit = asked.get("cursor"), route.limit(asked)
    if target.route == route.DELETED:
        graves = bucket.deleted(prefix=asked.get("prefix", ""), cursor=cursor, limit=limit)
        return json_answer(200, wire.grave_page_json(graves))
    versions = bucket.versions(target.name, cursor=cursor, limit=limit)
    return json_answer(200, wire.version_page_json(versions))


def revive(bucket: Depot, request: Request, target: Target, asked: Mapping[str, str]) -> Answer:
    """Undelete a name, or restore one of its versions; durable when it returns.

    Raises:
        BlobError: refused.
    """
    if target.route == route.UNDELETE:
        digest = asked.get("digest")
        found = None if digest is None else Digest.parse(digest)
        return _placed(bucket.undelete(target.name, digest=found))
    version = route.number(asked, "version", "the number of a version")
    if version is None:
        raise InvalidError("version", None, "the number of a version: ?version=3")
    return _placed(bucket.restore(target.name, version, when=conditions(request)))


def _placed(entry: Entry) -> Answer:
    return json_answer(200, wire.entry_json(entry), b"etag: %b\r\n" % entry.etag.encode())
