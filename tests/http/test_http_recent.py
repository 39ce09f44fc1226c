"""Heads of answers given lately, when commits come at the worst moments, also from elsewhere."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from crowd import on_each
from rawhttp import Connection, Reply, spell
from serving import Server, Servers

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.depot.depot import Depot
from holdfast.depot.local import hold_depot, open_depot
from holdfast.http import route
from holdfast.http.message import Request
from holdfast.http.queue import Queue
from holdfast.http.recent import Known, Recent
from holdfast.http.site import Site
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.segment import segment_path

PATH = b"/b/recent/k"
HEAD = b"GET /b/recent/k HTTP/1.1\r\nHost: a\r\n\r\n"
PLAIN_ASKS = 3  # the first keeps the path, the second its head, the third goes by the head

OTHER = """
import sys
from pathlib import Path
from holdfast.core.digest import Digest
from holdfast.depot.local import open_depot

with open_depot(Path(sys.argv[1]), attached=True) as depot:
    bucket, store = depot.bucket("recent"), depot.engine.store
    print("ready", flush=True)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
"""


class Late(EmbeddedKV):
    """A KV whose commits can be read a moment before their revision is announced, as all can."""

    def __init__(self, kv: EmbeddedKV) -> None:
        super().__init__(kv._log)
        self.announced = kv.revision()

    def revision(self) -> int:
        return self.announced


def test_a_head_made_before_an_unannounced_commit_is_never_kept(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        bucket = depot.bucket("recent")
        bucket.put("k", b"old")
        assert isinstance(depot.engine.kv, EmbeddedKV)
        late = Late(depot.engine.kv)
        recent = Recent(late, depot.engine.spot, depot.engine.names.policies, Queue(0))
        target = route.resolve("GET", PATH)
        before = late.revision()
        answer = Site(depot).read(Request("GET", PATH, b"", {}, ""), target, wait=True)
        assert answer is not None
        bucket.put("k", b"new")
        recent.keep(PATH, target, answer, (before, 0))
        late.announced = depot.engine.kv.revision()
        known = recent.find(PATH, HEAD)
        assert known is None or recent.body(known) is None


def test_a_head_is_kept_while_other_names_change(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        bucket = depot.bucket("recent")
        bucket.put("k", b"old")
        recent = Recent(depot.engine.kv, depot.engine.spot, depot.engine.names.policies, Queue(0))
        target = route.resolve("GET", PATH)
        before = depot.engine.kv.revision()
        answer = Site(depot).read(Request("GET", PATH, b"", {}, ""), target, wait=True)
        assert answer is not None
        bucket.put("other", b"x")
        recent.keep(PATH, target, answer, (before, 0))
        known = recent.find(PATH, HEAD)
        assert known is not None
        assert recent.heads[HEAD] is known
        for _ in range(3):
            assert bytes(recent.body(known) or b"") == b"old"
        bucket.put("k", b"new")
        assert recent.body(known) is None


def test_the_oldest_of_too_many_paths_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_PATHS_BYTES_MAX", 20 * limits.KIB)
    monkeypatch.setattr(limits, "RECENT_HEADS_BYTES_MAX", 5 * limits.KIB)
    with open_depot(tmp_path) as depot:
        depot.put("k", b"bytes")
        recent = Recent(depot.engine.kv, depot.engine.spot, depot.engine.names.policies, Queue(0))
        revision = depot.engine.kv.revision()
        target = route.resolve("GET", b"/blob/k")
        answer = Site(depot).read(Request("GET", b"/blob/k", b"", {}, ""), target, wait=True)
        assert answer is not None
        for number in range(100):
            recent.keep(
                b"/blob/%d" % number,
                target,
                answer,
                (revision, 0),
            )
            assert recent.find(b"/blob/%d" % number, b"GET %d" % number) is not None
        kept = [n for n in range(100) if recent.find(b"/blob/%d" % n, b"GET %d" % n) is not None]
        assert kept == list(range(100 - len(kept), 100))
        assert 5 < len(kept) < 30
        assert 5 < len(recent.heads) < 30
        bodies = [recent.body(known) for known in recent.heads.values()]
        assert {bytes(body) for body in bodies if body is not None} == {b"bytes"}


def test_what_is_forgotten_is_of_no_use_by_its_head_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_PATHS_BYTES_MAX", 2 * limits.KIB)
    with open_depot(tmp_path) as depot:
        depot.put("k", b"bytes")
        recent = Recent(depot.engine.kv, depot.engine.spot, depot.engine.names.policies, Queue(0))
        revision = depot.engine.kv.revision()
        target = route.resolve("GET", b"/blob/k")
        answer = Site(depot).read(Request("GET", b"/blob/k", b"", {}, ""), target, wait=True)
        assert answer is not None
        recent.keep(b"/blob/k", target, answer, (revision, 0))
        known = recent.find(b"/blob/k", HEAD)
        assert known is not None
        assert bytes(recent.body(known) or b"") == b"bytes"
        recent.keep(b"/b/default/k", target, answer, (revision, 0))
        assert recent.find(b"/blob/k", HEAD) is None
        assert recent.body(recent.heads[HEAD]) is None
        assert recent.heads[HEAD].head == b""


# Other processes


class Other:
    """A process that has the store open, too, and does there what it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._await("ready")

    def do(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._await("done")

    def _await(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == word + "\n"


@contextmanager
def two_processes(folder: Path) -> Iterator[tuple[Depot, Other]]:
    """A store that this process has open and another one, too."""
    command = [sys.executable, "-c", OTHER, str(folder)]
    pipe = subprocess.PIPE
    with (
        hold_depot(folder),
        open_depot(folder, attached=True) as depot,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process,
    ):
        yield depot, Other(process)


def remember(depot: Depot, recent: Recent, path: bytes = PATH) -> Known:
    """Answer a path the long way, as the first request does, and keep that."""
    revision = depot.engine.kv.revision()
    target = route.resolve("GET", path)
    answer = Site(depot).read(Request("GET", path, b"", {}, ""), target, wait=True)
    assert answer is not None
    recent.keep(path, target, answer, (revision, 0))
    known = recent.find(path, HEAD)
    assert known is not None
    return known


def body(recent: Recent, known: Known) -> bytes | None:
    found = recent.body(known)
    return None if found is None else bytes(found)


@pytest.mark.parametrize(
    "change",
    [
        'bucket.put("k", b"new")',
        'bucket.put("k", b"blob")',
        'bucket.delete("k")',
        'bucket.delete("k"); bucket.put("k", b"blob")',
        'bucket.move("k", "elsewhere")',
        'bucket.put("other", b"x"); bucket.copy("other", "k")',
        'bucket.put_many([("k", b"new")])',
        'bucket.delete_many(["k"])',
        'bucket.delete("k"); store.remove([Digest.of(b"blob")])',
    ],
)
def test_what_another_process_changed_is_not_remembered(tmp_path: Path, change: str) -> None:
    with two_processes(tmp_path) as (depot, other):
        depot.bucket("recent").put("k", b"blob")
        recent = Recent(depot.engine.kv, depot.engine.spot, depot.engine.names.policies, Queue(0))
        known = remember(depot, recent)
        other.do('bucket.put("another", b"x")')
        assert [body(recent, known), body(recent, known)] == [b"blob"] * 2
        other.do(change)
        assert body(recent, known) is None
        assert body(recent, known) is None


def test_a_hash_is_remembered_until_anybody_commits(tmp_path: Path) -> None:
    path = b"/blobs/" + str(Digest.of(b"blob")).encode()
    with two_processes(tmp_path) as (depot, other):
        depot.content.put(b"blob")
        recent = Recent(depot.engine.kv, depot.engine.spot, depot.engine.names.policies, Queue(0))
        known = remember(depot, recent, path)
        assert body(recent, known) == b"blob"
        other.do("depot.content.delete(Digest.of(b'blob'))")
        assert body(recent, known) is None


def test_what_another_process_compacted_is_found_again_and_its_file_closed(tmp_path: Path) -> None:
    with two_processes(tmp_path) as (depot, other):
        bucket = depot.bucket("recent")
        bucket.put("k", b"blob")
        bucket.put("dead", bytes(2 * limits.COMPACT_DEAD_BYTES_MIN))
        bucket.delete("dead")
        recent = Recent(depot.engine.kv, depot.engine.spot, depot.engine.names.policies, Queue(0))
        known = remember(depot, recent)
        assert body(recent, known) == b"blob"
        other.do("from holdfast.core import limits")
        other.do("store.remove([Digest.of(bytes(2 * limits.COMPACT_DEAD_BYTES_MIN))])")
        assert gone(tmp_path) == []
        other.do("list(depot.engine.compact(0.0, with_newest=True))")
        assert not segment_path(tmp_path / "log", 1).exists()
        assert body(recent, known) is None
        depot.engine.facts()
        assert gone(tmp_path) == []
        bucket.get("k")
        assert body(recent, known) == b"blob"


def gone(folder: Path) -> list[str]:
    """Files below `folder` that have no name any more and that this process has open."""
    links = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # of the listing itself
            links.append(str(path.readlink()))
    return [link for link in links if link.startswith(str(folder)) and link.endswith("(deleted)")]


def test_a_store_that_was_closed_gives_nothing(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        depot.bucket("recent").put("k", b"blob")
        recent = Recent(depot.engine.kv, depot.engine.spot, depot.engine.names.policies, Queue(0))
        known = remember(depot, recent)
        assert body(recent, known) == b"blob"
    assert body(recent, known) is None


# Whole servers


@pytest.fixture
def two(servers: Servers) -> Server:
    return servers.shared(workers="2", hot_path="true")


def ask_again(connection: Connection, path: str) -> Reply:
    """Ask until the answer is one that is remembered."""
    replies = [connection.ask("GET", path) for _ in range(PLAIN_ASKS)]
    assert [reply.status for reply in replies] == [200] * PLAIN_ASKS
    return replies[-1]


def test_a_request_like_one_before_gets_the_answer_of_its_own(server: Server, bucket: str) -> None:
    path, tag = f"/b/{bucket}/k", f'"{Digest.of(b"blob").hex()}"'
    asked = [
        ({"Range": "bytes=1-2"}, 206, b"lo"),
        ({"Range": "bytes=9-"}, 416, None),
        ({"Range": "bytes=0-0", "If-Range": '"no"'}, 200, b"blob"),
        ({"If-None-Match": tag}, 304, b""),
        ({"If-None-Match": '"no"'}, 200, b"blob"),
        ({"If-Match": '"no"'}, 412, None),
        ({"If-Match": tag}, 200, b"blob"),
        ({"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304, b""),
        ({"If-Unmodified-Since": "Fri, 01 Jan 2010 00:00:00 GMT"}, 412, None),
    ]
    with server.connect() as connection:
        connection.ask("PUT", path, b"blob")
        plain = ask_again(connection, path)
        assert plain.body == b"blob"
        for headers, status, wanted in asked:
            for _ in range(2):
                reply = connection.ask("GET", path, headers=headers)
                assert (reply.status, reply.body if wanted is not None else None) == (
                    status,
                    wanted,
                ), headers
            assert ask_again(connection, path).body == b"blob"
        head = connection.ask("HEAD", path)
        assert (head.status, head.headers["content-length"]) == (200, "4")
        inline = connection.ask("GET", path + "?disposition=inline")
        assert inline.headers["content-disposition"].startswith("inline")
        assert connection.ask("GET", path + "?x=1").status == 400
        refused = server.exchange(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        assert [each.status for each in refused] == [400]
        assert connection.ask("GET", path, headers={"Connection": "close"}).closes
        assert connection.at_end()


def test_requests_in_one_piece_or_many_are_answered_in_order(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    get, put = spell("GET", path), spell("PUT", path, b"new")
    with server.connect() as connection:
        connection.ask("PUT", path, b"old")
        ask_again(connection, path)
        connection.send(get + put + get + spell("DELETE", path) + get)
        replies = [connection.reply() for _ in range(5)]
        assert [each.status for each in replies] == [200, 200, 200, 204, 404]
        assert [replies[0].body, replies[2].body] == [b"old", b"new"]
        connection.ask("PUT", path, b"again")
        ask_again(connection, path)
        for byte in get:
            connection.send(bytes((byte,)))
        assert connection.reply().body == b"again"
        connection.send(b"GET / HTTP/1.1\r\nX: ")
        assert not connection.is_answered(0.05)
        connection.send(get)  # which ends the header of another request
        assert connection.reply().headers["content-type"].startswith("text/plain")


def test_a_long_head_is_answered_each_time(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    for size_bytes in (900, 1000, 1100, 3000):
        with server.connect() as connection:
            connection.ask("PUT", path, b"%d" % size_bytes)
            for _ in range(PLAIN_ASKS):
                reply = connection.ask("GET", path, headers={"X": "x" * size_bytes})
                assert reply.body == b"%d" % size_bytes


def test_no_worker_remembers_what_another_changed(two: Server, bucket: str) -> None:
    path, other = f"/b/{bucket}/k", f"/b/{bucket}/other"
    with ExitStack() as stack:
        reader, writer = (stack.enter_context(each) for each in on_each(two))
        writer.ask("PUT", other, b"other")
        writer.ask("PUT", path, b"0")
        for number in range(1, 50):
            assert ask_again(reader, path).body == b"%d" % (number - 1)
            writer.ask("DELETE", path)
            assert reader.ask("GET", path).status == 404
            writer.ask("PUT", path, headers={"Holdfast-Copy-From": f"{bucket}/other"})
            assert ask_again(reader, path).body == b"other"
            writer.ask("PUT", f"/b/{bucket}/b{number}", headers={"Holdfast-Move-From": path[3:]})
            assert reader.ask("GET", path).status == 404
            writer.ask("PUT", path, b"%d" % number)


def test_no_worker_remembers_a_hash_that_another_let_go_of(two: Server) -> None:
    path = f"/blobs/{Digest.of(b'by hash')}"
    with ExitStack() as stack:
        reader, writer = (stack.enter_context(each) for each in on_each(two))
        for _ in range(20):
            writer.ask("PUT", path, b"by hash")
            assert ask_again(reader, path).body == b"by hash"
            assert writer.ask("DELETE", path).status == 204
            assert reader.ask("GET", path).status == 404
