"""The server itself: whether it lives, what it counts, and what it knows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from holdfast import wire
from holdfast.core.errors import UnavailableError
from holdfast.http import metrics, openapi
from holdfast.http.message import Answer, json_answer

if TYPE_CHECKING:
    from holdfast.depot.ownership import Ownership
    from holdfast.http.site import Site
    from holdfast.services.moving import Progress

TEXT_HEAD = b"content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
WELCOME = b"""holdfast

PUT, GET, HEAD, DELETE  /blob/{key}           a name in the bucket `default`
                        /b/{bucket}/{key}     a name in another bucket
GET                     /blob?prefix=         a listing; also /b/{bucket}?prefix=
PUT, GET, HEAD, DELETE  /blobs/{sha256}       a blob by the hash of its bytes
GET                     /blobs                all hashes
GET                     /events               what became of names, in order
GET                     /deleted/{bucket}     deleted names; POST /undelete/{bucket}/{key}
GET                     /versions/{bucket}/{key}  and POST /restore/{bucket}/{key}?version=
POST                    /b/{bucket}, /blobs   many at once; also /blobs/missing
POST                    /presign              a URL for somebody who has no key
GET                     /limits               what you may use, and what is left
GET                     /openapi.json /metrics /healthz /readyz /stats
"""


def answer(path: str, site: Site) -> Answer:
    """Answer GET or HEAD of one of these routes.

    Raises:
        UnavailableError: the store takes no writes, and that was asked.
    """
    depot = site.depot
    if path == "/stats":
        return json_answer(200, wire.stats_json(depot.stats(), _move(site.move)))
    if path == "/readyz" and not depot.engine.facts()["healthy"]:
        raise UnavailableError("the store takes no writes")
    if path == "/metrics":
        site.report()
        body = metrics.text(site.team, depot, site.queue, site.move)
        return Answer(200, b"content-type: %b\r\n" % metrics.CONTENT_TYPE, body)
    if path == "/openapi.json":
        return json_answer(200, openapi.document())
    return Answer(200, TEXT_HEAD, WELCOME if path == "/" else _well(path, depot.engine.ownership))


def _well(path: str, ownership: Ownership | None) -> bytes:
    """Say that all is well, or what is not, to anybody who asks: so without its address."""
    if path == "/readyz" and ownership is not None and ownership.why:
        return b"ok, but the %b blobs are away\n" % ownership.what.encode()
    return b"ok\n"


def _move(progress: Progress | None) -> wire.MoveDoc | None:
    return None if progress is None else wire.MoveDoc(**asdict(progress))
