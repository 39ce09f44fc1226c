"""The OpenAPI description at GET /openapi.json, made from the table of routes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import msgspec

from holdfast import wire
from holdfast.core import limits
from holdfast.http import route
from holdfast.http.schemas import ADMIN, Operation, reference, schemas

PATHS = {
    "/blob/{key}": (route.BLOB, "A name in the bucket `default`."),
    "/b/{bucket}/{key}": (route.BLOB, "A name in a bucket."),
    "/blob/{key}/metadata": (route.METADATA, "What a name in `default` points to."),
    "/b/{bucket}/{key}/metadata": (route.METADATA, "What a name points to."),
    "/blob": (route.LISTING, "A listing of the bucket `default`."),
    "/b/{bucket}": (route.LISTING, "A listing of a bucket."),
    "/deleted/{bucket}": (route.DELETED, "Deleted names of a bucket that can be brought back."),
    "/undelete/{bucket}/{key}": (route.UNDELETE, "Bring a deleted name back."),
    "/versions/{bucket}/{key}": (route.VERSIONS, "What a name points to, and did."),
    "/restore/{bucket}/{key}": (route.RESTORE, "Point a name to one of its versions again."),
    "/blobs/{hash}": (route.HASH, "A blob by the SHA-256 of its bytes."),
    "/blobs": (route.HASHES, "The digests of all blobs."),
    "/events": (route.EVENTS, "What became of names: lines of JSON, or server-sent events."),
    "/limits": (route.LIMITS, "What the caller may use, and what is left of it."),
    "/presign": (route.PRESIGN, "Sign a URL for somebody who has no key."),
    "/blobs/missing": (route.MISSING, "Which of many digests nothing holds."),
}
SERVICES = {
    "/": "A list of the routes, for people.",
    "/healthz": "200 while the process lives.",
    "/readyz": "200 while it takes writes; the text says what is away.",
    "/metrics": "Prometheus metrics.",
    "/stats": "How much is stored.",
    "/openapi.json": "This document.",
}
WRITING = ("PUT", "POST")
STRINGS = {"type": "array", "items": {"type": "string"}, "maxItems": limits.BATCH_REFS_MAX}
WANTED = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
    "properties": {"get": STRINGS, "head": STRINGS, "delete": STRINGS},
}
HASHES = {"type": "object", "required": ["hashes"], "properties": {"hashes": STRINGS}}
WISH = {
    "type": "object",
    "required": ["path"],
    "additionalProperties": False,
    "properties": {
        "path": {"type": "string"},
        "method": {"type": "string", "enum": ["GET", "PUT"]},
        "expires_s": {"type": "integer", "minimum": 1, "maximum": limits.PRESIGN_S_MAX},
        "bytes_max": {"type": ["integer", "null"], "minimum": 0},
        "content_type": {"type": ["string", "null"]},
        "digest": {"type": ["string", "null"]},
        "create_only": {"type": "boolean"},
        "inline": {"type": "boolean"},
    },
}
POSTED = {
    route.LISTING: ("Many names of it at once: lines of JSON, and bytes.", WANTED),
    route.HASHES: ("Many blobs at once: lines of JSON, and bytes.", WANTED),
    route.MISSING: ("Those of the digests that nothing holds.", HASHES),
    route.PRESIGN: ("The URL, and until when it is good.", WISH),
}
REVIVED = {"200": "The entry, durable."}
DONE = {200: "Done; durable.", 201: "Made; durable.", 204: "Gone, or never there; durable."}
STATUSES = {
    "GET": {"200": "The bytes or the JSON.", "206": "The asked ranges.", "304": "Not modified."},
    "HEAD": {"200": "As GET, without a body.", "304": "Not modified."},
    "PUT": {"201": "Created, and durable.", "200": "Replaced, or it was there; durable."},
    "POST": {"201": "Created, and durable.", "200": "Replaced, and durable."},
    "DELETE": {"204": "Gone, or never there; durable."},
}
QUEUED = {"202": "Queued, with `async_write`; not durable."}
QUEUED_METHODS = (*WRITING, "DELETE")


@cache
def document() -> bytes:
    """Write the description as JSON; always the same."""
    paths = {path: _path(path, *about) for path, about in PATHS.items()}
    paths |= {path: _path(path, route.SERVICE, about) for path, about in SERVICES.items()}
    paths |= {path: _admin(path, methods) for path, methods in ADMIN.items()}
    schema = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "retryable"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "retryable": {"type": "boolean"},
                },
            }
        },
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "holdfast", "version": "1"},
            "paths": paths,
            "components": {"schemas": {"Error": schema, **schemas()}},
        }
    )


def _admin(path: str, methods: Mapping[str, Operation]) -> dict[str, object]:
    """A route of the admin face, whose bodies are JSON."""
    item = _placed(path)
    for method, one in methods.items():
        operation = _described(one.about, {})
        responses = operation["responses"]
        assert isinstance(responses, dict)
        for status, schema in one.answers.items():
            responses[str(status)] = {"description": DONE[status], **_json(schema)}
        if one.is_list:
            operation["parameters"] = [_query("cursor")]
        if one.body:
            operation["requestBody"] = _json(one.body)
        item[method] = operation
    return item


def _json(schema: str) -> dict[str, object]:
    return {"content": {"application/json": {"schema": reference(schema)}}} if schema else {}


def _query(name: str) -> dict[str, object]:
    return {"name": name, "in": "query", "schema": {"type": "string"}}


def _placed(path: str) -> dict[str, object]:
    """What a path has in it."""
    placed = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": one, "in": "path", "required": True, "schema": {"type": "string"}}
        for one in placed
    ]
    return {"parameters": parameters} if parameters else {}


def _path(path: str, name: str, about: str) -> dict[str, object]:
    item = _placed(path)
    for method in route.METHODS[name]:
        item[method.lower()] = _operation(name, method, about)
    return item


def _operation(name: str, method: str, about: str) -> dict[str, object]:
    if method == "POST" and name in POSTED:
        return _posted(name, about)
    is_revival = name in route.REVIVALS
    is_queued = name == route.BLOB and method in QUEUED_METHODS
    statuses = STATUSES[method] | QUEUED if is_queued else STATUSES[method]
    operation = _described(about, REVIVED if is_revival else statuses)
    if method == "GET" or is_revival:
        operation["parameters"] = list(map(_query, route.PARAMETERS[name]))
    if method in WRITING and not is_revival:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"content": content}
    return operation


def _posted(name: str, about: str) -> dict[str, object]:
    """A POST with a body of JSON; many names may come with their bytes, too."""
    answer, schema = POSTED[name]
    operation = _described(about, {"200": answer})
    content: dict[str, object] = {"application/json": {"schema": schema}}
    if name == route.LISTING:
        content[wire.MANY_TYPE] = {"schema": {"type": "string", "format": "binary"}}
    operation["requestBody"] = {"content": content}
    return operation


def _described(about: str, statuses: Mapping[str, str]) -> dict[str, object]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses: dict[str, object] = {
        status: {"description": text} for status, text in statuses.items()
    }
    responses["default"] = {"description": "An error.", "content": error}
    return {"summary": about, "responses": responses}
