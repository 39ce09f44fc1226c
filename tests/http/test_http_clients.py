"""Clients that people use: curl, wrk, httpx, aiohttp, and a browser that runs fetch()."""

import asyncio
import hashlib
import html
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import aiohttp
import httpx
import msgspec
import pytest
from serving import Server, Servers

CURL = shutil.which("curl")
WRK = shutil.which("wrk")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PHOTO = Path(__file__).parent.parent / "data" / "hubble_deep_field.jpg"
BIG = bytes(range(256)) * 8192  # 2 MiB

needs_curl = pytest.mark.skipif(CURL is None, reason="no curl on this machine")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


# curl


def curl(*arguments: str, stdin: bytes = b"") -> bytes:
    """Run curl as a person would; a status of 400 and above fails it."""
    assert CURL is not None
    command = [CURL, "--silent", "--show-error", "--fail-with-body", "--max-time", "20", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@needs_curl
def test_curl_uploads_and_downloads_a_photograph(
    server: Server, bucket: str, tmp_path: Path
) -> None:
    url = f"{server.url}/b/{bucket}/photo.jpg"
    entry = msgspec.json.decode(curl("--upload-file", str(PHOTO), url))
    assert entry["content_type"] == "image/jpeg"
    target = tmp_path / "back.jpg"
    curl("--output", str(target), url)
    assert target.read_bytes() == PHOTO.read_bytes()
    target.write_bytes(PHOTO.read_bytes()[:1000])
    curl("--output", str(target), "--continue-at", "-", url + "?disposition=inline")
    assert target.read_bytes() == PHOTO.read_bytes()
    named = tmp_path / "named"
    named.mkdir()
    curl("--remote-name", "--remote-header-name", "--output-dir", str(named), url)
    assert (named / "photo.jpg").read_bytes() == PHOTO.read_bytes()


@needs_curl
@pytest.mark.parametrize(
    "flags",
    [
        ("--data-binary", "@-"),
        ("--upload-file", "-"),
        ("--form", "file=@-"),
        ("--data-binary", "@-", "--http2"),
        ("--data-binary", "@-", "--header", "Expect: 100-continue"),
        ("--upload-file", "-", "--header", "Transfer-Encoding: chunked"),
        ("--data-binary", "@-", "--request", "PUT", "--compressed"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("size", [0, 5, 2 * 1024 * 1024])
def test_curl_uploads_in_each_of_its_ways(
    server: Server, bucket: str, flags: tuple[str, ...], size: int
) -> None:
    if "--http2" in flags and not server.is_hot:
        pytest.skip("the ASGI app refuses a body beside an upgrade")
    url = f"{server.url}/b/{bucket}/k"
    curl(*flags, url, stdin=BIG[:size])
    assert curl(url) == BIG[:size]


@needs_curl
def test_curl_ranges_deletes_and_is_told_errors(server: Server, bucket: str) -> None:
    url = f"{server.url}/b/{bucket}/k"
    curl("--data-binary", "hello", url)
    assert curl("--range", "1-3", url) == b"ell"
    assert curl("--range", "-2", url) == b"lo"
    assert curl("--head", url).startswith(b"HTTP/1.1 200 OK\r\n")
    etag = hashlib.sha256(b"hello").hexdigest()
    assert curl("--header", f'If-None-Match: "{etag}"', url) == b""
    curl("--request", "DELETE", url)
    assert CURL is not None
    failed = subprocess.run([CURL, "-s", "--fail", url], capture_output=True, check=False)
    assert failed.returncode == 22


@needs_curl
def test_curl_is_told_that_a_body_is_too_large(server: Server, bucket: str, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    assert CURL is not None
    command = [CURL, "-s", "--max-time", "20", "-T", str(big), f"{server.url}/b/{bucket}/k"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert msgspec.json.decode(done.stdout)["error"]["code"] == "too_large"
    server.check_clean(bucket)


@needs_curl
def test_curl_reaches_keys_with_dots(server: Server, bucket: str) -> None:
    url = f"{server.url}/b/{bucket}/a/../%2E%2E/b"
    curl("--path-as-is", "--data-binary", "x", url)
    assert server.keys(bucket) == ["a/../../b"]


# wrk


@pytest.mark.skipif(WRK is None, reason="no wrk on this machine")
def test_wrk_finds_no_errors(server: Server, bucket: str) -> None:
    url = f"{server.url}/b/{bucket}/k"
    server.ask("PUT", f"/b/{bucket}/k", BIG[:1024])
    assert WRK is not None
    command = [WRK, "--threads", "1", "--connections", "32", "--duration", "1s", url]
    report = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    done = re.search(r"(\d+) requests in", report)
    assert done is not None, report
    assert int(done[1]) > 100
    assert "Non-2xx" not in report
    assert "Socket errors" not in report


# httpx


def test_httpx_speaks_with_the_server(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    with httpx.Client(base_url=server.url, timeout=20) as client:
        assert client.put(path, content=BIG).status_code == 201
        assert client.get(path).content == BIG
        assert client.put(path, content=iter([BIG[:10], BIG[10:]])).status_code == 200
        with client.stream("GET", path) as reply:
            assert b"".join(reply.iter_bytes()) == BIG
        part = client.get(path, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, BIG[5:10])
        form = client.post(path, files={"file": ("a.txt", b"hello", "text/plain")})
        assert form.json()["content_type"] == "text/plain"
        assert client.get(path).headers["content-disposition"].startswith("attachment")
        assert client.get(f"/b/{bucket}", params={"prefix": "k"}).json()["next"] is None
        assert client.delete(path).status_code == 204
        assert client.get(path).json()["error"]["code"] == "not_found"


def test_httpx_asks_a_hundred_things_at_once(server: Server, bucket: str) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:

            async def one(number: int) -> None:
                path, body = f"/b/{bucket}/{number}", b"%d" % number * 100
                assert (await client.put(path, content=body)).status_code == 201
                assert (await client.get(path)).content == body

            await asyncio.gather(*(one(number) for number in range(100)))

    asyncio.run(run())
    assert len(server.keys(bucket)) == 100


# aiohttp


def test_aiohttp_speaks_with_the_server(server: Server, bucket: str) -> None:
    async def chunks() -> object:
        for at in range(0, len(BIG), 100_000):
            yield BIG[at : at + 100_000]

    async def run() -> None:
        url = f"{server.url}/b/{bucket}/k"
        async with aiohttp.ClientSession() as session:
            async with session.put(url, data=BytesIO(BIG)) as reply:
                assert reply.status == 201
            async with session.get(url) as reply:
                assert await reply.read() == BIG
            async with session.put(url, data=chunks()) as reply:
                assert (await reply.json())["size_bytes"] == len(BIG)
            form = aiohttp.FormData()
            form.add_field("file", b"hello", filename="ä.txt", content_type="text/plain")
            async with session.post(url, data=form) as reply:
                assert (await reply.json())["size_bytes"] == 5
            async with session.put(url, data=BytesIO(BIG), expect100=True) as reply:
                assert reply.status == 200
            async with session.get(url, headers={"Range": "bytes=-3"}) as reply:
                assert (reply.status, await reply.read()) == (206, BIG[-3:])
            async with session.delete(url) as reply:
                assert reply.status == 204

    asyncio.run(run())


# A browser

PAGE = """<!doctype html><title>test</title><pre id=out>running</pre><script>
const base = BASE;
const steps = [];
async function step(name, request, check) {
  const reply = await request;
  steps.push([name, reply.status, await check(reply)]);
}
(async () => {
  try {
    const url = base + "/from page.txt";
    const big = new Uint8Array(3000000).map((_, i) => i % 251);
    const text = r => r.text();
    await step("put", fetch(url, {method: "PUT", body: "hello", headers: {
      "Content-Type": "text/plain", "Holdfast-Meta-Colour": "red"}}), r => r.headers.get("etag"));
    await step("get", fetch(url), text);
    await step("head", fetch(url, {method: "HEAD"}), r => r.headers.get("etag"));
    await step("range", fetch(url, {headers: {Range: "bytes=1-3"}}),
      async r => [r.headers.get("content-range"), await r.text()]);
    await step("current", fetch(url, {headers: {"If-None-Match": '"x"'}}), text);
    await step("create only", fetch(url, {method: "PUT", body: "x",
      headers: {"If-None-Match": "*"}}), async r => (await r.json()).error.code);
    const form = new FormData();
    form.append("file", new Blob([big], {type: "application/x-big"}), "big.bin");
    await step("form", fetch(base + "/big", {method: "POST", body: form}),
      async r => (await r.json()).size_bytes);
    await step("big", fetch(base + "/big"), async r => {
      const got = new Uint8Array(await r.arrayBuffer());
      return got.length === big.length && got.every((b, i) => b === big[i]);
    });
    await step("list", fetch(base), async r => (await r.json()).entries.map(e => e.key));
    await step("delete", fetch(url, {method: "DELETE"}), text);
    await step("gone", fetch(url), async r => (await r.json()).error.code);
  } catch (error) { steps.push(["error", String(error)]); }
  document.getElementById("out").textContent = JSON.stringify(steps);
  document.title = "done";
})();
</script>"""


@contextmanager
def page_server(page: str) -> Iterator[str]:
    """Serve one page on another origin than holdfast."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/"
        finally:
            http.shutdown()
            thread.join()


def browse(url: str, folder: Path) -> str:
    """Load a page in a browser without a window, and return its DOM when its scripts are done."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={folder}", "--virtual-time-budget=20000", "--dump-dom", url]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment)
    return done.stdout.decode()


def shown(dom: str) -> object:
    """What the scripts of a page wrote into it."""
    found = re.search(r"<pre id=\"out\">(.*?)</pre>", dom, re.DOTALL)
    assert found is not None, dom
    return msgspec.json.decode(html.unescape(found[1]))


@needs_browser
def test_a_browser_puts_gets_ranges_and_deletes(
    servers: Servers, bucket: str, tmp_path: Path
) -> None:
    server = servers.shared(hot_path="true", cors_origins="*")
    page = PAGE.replace("BASE", f'"{server.url}/b/{bucket}"')
    with page_server(page) as url:
        dom = browse(url, tmp_path)
    etag = f'"{hashlib.sha256(b"hello").hexdigest()}"'
    assert shown(dom) == [
        ["put", 201, etag],
        ["get", 200, "hello"],
        ["head", 200, etag],
        ["range", 206, ["bytes 1-3/5", "ell"]],
        ["current", 200, "hello"],
        ["create only", 412, "precondition_failed"],
        ["form", 201, 3_000_000],
        ["big", 200, True],
        ["list", 200, ["big", "from page.txt"]],
        ["delete", 204, ""],
        ["gone", 404, "not_found"],
    ]


@needs_browser
def test_a_stored_page_runs_no_script_in_a_browser(
    server: Server, bucket: str, tmp_path: Path
) -> None:
    """The sandbox of the content security policy holds, also for pages that are shown inline."""
    path = f"/b/{bucket}/evil.html"
    server.ask("PUT", path, b"<p>shown</p><script>document.write('ran')</script>")
    dom = browse(f"{server.url}{path}?disposition=inline", tmp_path)
    assert "<p>shown</p>" in dom
    assert "ran</p>" not in dom
    assert dom.count("ran") == 1, "only in the script itself"


LINES = {"small": 300, "middle": 60_000, "large": 600_000}
"""Of one zstd frame, of some, and in a file of its own."""
CODED = """<!doctype html><title>test</title><pre id=out>running</pre><script>
(async () => {
  const steps = [];
  for (const name of ["small", "middle", "large"]) {
    try {
      const reply = await fetch(BASE + "/" + name);
      const digest = await crypto.subtle.digest("SHA-256", await reply.arrayBuffer());
      const hex = [...new Uint8Array(digest)].map(b => b.toString(16).padStart(2, "0")).join("");
      steps.push([name, reply.headers.get("etag"), hex]);
    } catch (error) { steps.push([name, "error", String(error)]); }
  }
  document.getElementById("out").textContent = JSON.stringify(steps);
})();
</script>"""


@needs_browser
def test_a_browser_reads_zstd_as_it_is_stored(
    servers: Servers, bucket: str, tmp_path: Path
) -> None:
    server = servers.shared(hot_path="true", cors_origins="*", compress="zstd")
    texts = {name: b"a line of text\n" * lines for name, lines in LINES.items()}
    for name, text in texts.items():
        server.ask("PUT", f"/b/{bucket}/{name}", text, {"Content-Type": "text/plain"})
    page = CODED.replace("BASE", f'"{server.url}/b/{bucket}"')
    with page_server(page) as url:
        found = shown(browse(url, tmp_path))
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    assert found == [[name, f'"{digest}-zstd"', digest] for name, digest in digests.items()]
