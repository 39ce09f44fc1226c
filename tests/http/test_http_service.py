"""What is common to all routes: the error shape, methods, CORS, and the routes about the server."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rawhttp import Reply
from serving import Server, Servers

from holdfast.http import openapi, route, schemas

PATHS = {
    "/blob/k": route.BLOB,
    "/b/some/k": route.BLOB,
    "/blob/k/metadata": route.METADATA,
    "/b/some/k/metadata": route.METADATA,
    "/blob": route.LISTING,
    "/b/some": route.LISTING,
    "/deleted/some": route.DELETED,
    "/undelete/some/k": route.UNDELETE,
    "/versions/some/k": route.VERSIONS,
    "/restore/some/k": route.RESTORE,
    "/blobs/" + "0" * 64: route.HASH,
    "/blobs": route.HASHES,
    "/": route.SERVICE,
    "/healthz": route.SERVICE,
    "/readyz": route.SERVICE,
    "/metrics": route.SERVICE,
    "/stats": route.SERVICE,
    "/openapi.json": route.SERVICE,
}
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
ORIGIN = "http://page.example"


# Errors


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/Blob/k", "/healthz/", "//blob/k", "/b", "/metric", "/deleted"),
        *("/deleted/b/k", "/undelete/b", "/versions", "/versions/b", "/restore/"),
    ],
)
def test_an_unknown_route_is_not_found(server: Server, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        assert server.ask(method, path).code == "not_found", method


@pytest.mark.parametrize("path", PATHS)
def test_a_method_is_known_or_refused_with_those_that_are(server: Server, path: str) -> None:
    allowed = route.METHODS[PATHS[path]]
    for method in METHODS:
        reply = server.ask(method, path)
        if method in allowed:
            assert reply.status != 405, method
        else:
            assert reply.status == 405, method
            assert method == "HEAD" or reply.code == "method_not_allowed"
            assert reply.headers["allow"] == ", ".join(allowed)


def test_errors_have_one_shape(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"hello")
    asked: list[tuple[Reply, int, str]] = [
        (server.ask("GET", f"/b/{bucket}/missing"), 404, "not_found"),
        (server.ask("GET", "/blob/%"), 400, "invalid"),
        (server.ask("PATCH", "/blob/k"), 405, "method_not_allowed"),
        (server.ask("PUT", "/blobs/" + "0" * 64, b"x"), 422, "digest_mismatch"),
        (
            server.ask("GET", f"/b/{bucket}/k", headers={"Range": "bytes=9-"}),
            416,
            "unsatisfiable_range",
        ),
        (
            server.ask("GET", f"/b/{bucket}/k", headers={"If-Match": '"x"'}),
            412,
            "precondition_failed",
        ),
    ]
    for reply, status, code in asked:
        assert reply.status == status
        assert set(reply.json()) == {"error"}
        error = reply.json()["error"]
        assert set(error) >= {"code", "message", "retryable"}
        assert (error["code"], error["retryable"]) == (code, False)
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_an_error_never_repeats_hostile_bytes_as_markup(server: Server) -> None:
    reply = server.ask("GET", "/blob/k?<script>alert(1)</script>=1")
    assert reply.code == "invalid"
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(server: Server, path: str) -> None:
    got, head = server.ask("GET", path), server.ask("HEAD", path)
    assert head.status == got.status
    assert head.body == b""
    changing = {"date", "content-length"}
    assert {n: v for n, v in head.headers.items() if n not in changing} == {
        n: v for n, v in got.headers.items() if n not in changing
    }


@pytest.mark.parametrize("path", [path for path, name in PATHS.items() if name == route.SERVICE])
def test_service_routes_take_no_parameters(server: Server, path: str) -> None:
    assert server.ask("GET", path + "?x=1").code == "invalid"


# CORS


@pytest.fixture
def shared_with(servers: Servers, way: str) -> Server:
    """A server that lets the pages of one origin read."""
    return servers.shared(hot_path=way, cors_origins=ORIGIN)


def test_without_the_setting_no_page_may_read(server: Server, bucket: str) -> None:
    headers = {"Origin": ORIGIN}
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    reply = server.ask("GET", f"/b/{bucket}/k", headers=headers)
    assert reply.status == 200
    assert not [name for name in reply.headers if name.startswith("access-control")]
    preflight = headers | {"Access-Control-Request-Method": "PUT"}
    assert server.ask("OPTIONS", f"/b/{bucket}/k", headers=preflight).status == 405


def test_a_page_of_the_origin_may_read_and_write(shared_with: Server, bucket: str) -> None:
    preflight = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "holdfast-meta-a, range, if-match, content-type",
    }
    reply = shared_with.ask("OPTIONS", f"/b/{bucket}/k", headers=preflight)
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    allowed = {one.strip() for one in reply.headers["access-control-allow-methods"].split(",")}
    assert allowed >= {"GET", "HEAD", "PUT", "POST", "DELETE"}
    named = reply.headers["access-control-allow-headers"].lower()
    assert all(name in named for name in ("holdfast-meta-a", "range", "if-match"))
    put = shared_with.ask("PUT", f"/b/{bucket}/k", b"hello", {"Origin": ORIGIN})
    assert put.status == 201
    got = shared_with.ask("GET", f"/b/{bucket}/k", headers={"Origin": ORIGIN, "Range": "bytes=0-1"})
    assert (got.status, got.body) == (206, b"he")
    assert got.headers["access-control-allow-origin"] == ORIGIN
    exposed = got.headers["access-control-expose-headers"].lower()
    assert all(name in exposed for name in ("etag", "content-range", "repr-digest"))


def test_pages_of_other_origins_may_not(shared_with: Server, bucket: str) -> None:
    shared_with.ask("PUT", f"/b/{bucket}/k", b"x")
    reply = shared_with.ask("GET", f"/b/{bucket}/k", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in reply.headers
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    refused = shared_with.ask("OPTIONS", f"/b/{bucket}/k", headers=preflight)
    assert refused.status == 400
    assert "access-control-allow-origin" not in refused.headers


def test_caches_are_told_that_answers_differ_by_origin(shared_with: Server, bucket: str) -> None:
    shared_with.ask("PUT", f"/b/{bucket}/k", b"x")
    reply = shared_with.ask("GET", f"/b/{bucket}/k", headers={"Origin": ORIGIN})
    assert "origin" in reply.headers.get("vary", "").lower()


# About the server


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_living_server_says_so(server: Server, path: str) -> None:
    reply = server.ask("GET", path)
    assert (reply.status, reply.body) == (200, b"ok\n")


def test_the_front_page_names_the_routes(server: Server) -> None:
    reply = server.ask("GET", "/")
    assert reply.headers["content-type"].startswith("text/plain")
    assert b"/blob/{key}" in reply.body


def test_metrics_are_prometheus_text(server: Server, bucket: str) -> None:
    def samples() -> dict[tuple[str, str], float]:
        text = server.ask("GET", "/metrics").body.decode()
        found: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = (sample.name, sample.labels.get("status", ""))
                found[name] = found.get(name, 0) + sample.value
        return found

    before = samples()
    server.ask("PUT", f"/b/{bucket}/k", b"x" * 1000)
    server.ask("GET", f"/b/{bucket}/k")
    server.ask("GET", f"/b/{bucket}/missing")
    after = samples()
    asked = "holdfast_http_requests_total"
    assert after[asked, "201"] == before.get((asked, "201"), 0) + 1
    assert after[asked, "404"] == before.get((asked, "404"), 0) + 1
    received = ("holdfast_http_received_bytes_total", "")
    sent = ("holdfast_http_sent_bytes_total", "")
    assert after[received] - before[received] == 1000
    assert after[sent] - before[sent] > 1000
    assert after["holdfast_entries", ""] == before["holdfast_entries", ""] + 1
    assert after["process_open_fds", ""] > 0


def test_stats_count_entries(server: Server, bucket: str) -> None:
    before = server.ask("GET", "/stats").json()
    server.ask("PUT", f"/b/{bucket}/a", b"x" * 10)
    server.ask("PUT", f"/b/{bucket}/b", b"x" * 10)
    after = server.ask("GET", "/stats").json()
    assert after["entries"] == before["entries"] + 2
    assert after["entry_bytes"] == before["entry_bytes"] + 20


@pytest.fixture
def document(server: Server) -> Any:
    reply = server.ask("GET", "/openapi.json")
    assert reply.headers["content-type"] == "application/json"
    return reply.json()


def test_the_description_names_every_route_and_method(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    assert set(document["info"]) >= {"title", "version"}
    described = {
        path: tuple(name.upper() for name in item if name != "parameters")
        for path, item in document["paths"].items()
    }
    known = {path: route.METHODS[name] for path, (name, _) in openapi.PATHS.items()}
    known |= dict.fromkeys(openapi.SERVICES, route.METHODS[route.SERVICE])
    assert {path: set(names) for path, names in described.items()} == {
        **{path: set(names) for path, names in known.items()},
        **{path: {name.upper() for name in names} for path, names in schemas.ADMIN.items()},
    }


def test_the_description_is_well_formed(document: Any) -> None:
    """OpenAPI 3.1: parameters of the path are declared, operations answer, references lead on."""
    for path, item in document["paths"].items():
        placed = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        declared = {one["name"] for one in item.get("parameters", [])}
        assert placed == declared
        assert all(one["required"] for one in item.get("parameters", []))
        for method in set(item) - {"parameters"}:
            operation = item[method]
            assert operation["summary"]
            assert all("description" in one for one in operation["responses"].values())
            assert {"query"} >= {one["in"] for one in operation.get("parameters", [])}
            brings = method in {"put", "post"} and not path.startswith(("/undelete/", "/restore/"))
            if path in schemas.ADMIN:
                brings = bool(schemas.ADMIN[path][method].body)
            assert ("requestBody" in operation) == brings
    for reference in references(document):
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [one for value in node.values() for one in references(value)]
    return [one for value in node for one in references(value)] if isinstance(node, list) else []


def test_the_described_routes_exist(server: Server, document: Any) -> None:
    for path, item in document["paths"].items():
        place = path.replace("{bucket}", "some").replace("{key}", "k").replace("{hash}", "0" * 64)
        place = place.replace("{owner}", "some").replace("{id}", "0" * 12)
        place = place.replace("{webhook}", "some")
        for method in set(item) - {"parameters", "post", "put", "delete"}:
            assert server.ask(method.upper(), place).status in {200, 404}
            for parameter in item[method].get("parameters", []):
                query = f"{place}?{parameter['name']}=1"
                message = server.ask("GET", query).body
                assert b"query parameter" not in message
