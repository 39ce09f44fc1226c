"""Heads of answers given lately, when commits come at the worst moments."""

from pathlib import Path

import pytest

from holdfast.core import limits
from holdfast.depot.local import open_depot
from holdfast.http import route
from holdfast.http.message import Request
from holdfast.http.recent import Recent
from holdfast.http.site import Site
from holdfast.kv.embedded import EmbeddedKV

PATH = b"/b/recent/k"
HEAD = b"GET /b/recent/k HTTP/1.1\r\nHost: a\r\n\r\n"


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
        recent = Recent(late, depot.engine.spot)
        target = route.resolve("GET", PATH)
        before = late.revision()
        answer = Site(depot).read(Request("GET", PATH, b"", {}), target, wait=True)
        assert answer is not None
        bucket.put("k", b"new")
        recent.keep(PATH, target, answer, before)
        late.announced = depot.engine.kv.revision()
        known = recent.find(PATH, HEAD)
        assert known is None or recent.body(known) is None


def test_a_head_is_kept_while_other_names_change(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        bucket = depot.bucket("recent")
        bucket.put("k", b"old")
        recent = Recent(depot.engine.kv, depot.engine.spot)
        target = route.resolve("GET", PATH)
        before = depot.engine.kv.revision()
        answer = Site(depot).read(Request("GET", PATH, b"", {}), target, wait=True)
        assert answer is not None
        bucket.put("other", b"x")
        recent.keep(PATH, target, answer, before)
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
        recent = Recent(depot.engine.kv, depot.engine.spot)
        revision = depot.engine.kv.revision()
        target = route.resolve("GET", b"/blob/k")
        answer = Site(depot).read(Request("GET", b"/blob/k", b"", {}), target, wait=True)
        assert answer is not None
        for number in range(100):
            recent.keep(b"/blob/%d" % number, target, answer, revision)
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
        recent = Recent(depot.engine.kv, depot.engine.spot)
        revision = depot.engine.kv.revision()
        target = route.resolve("GET", b"/blob/k")
        answer = Site(depot).read(Request("GET", b"/blob/k", b"", {}), target, wait=True)
        assert answer is not None
        recent.keep(b"/blob/k", target, answer, revision)
        known = recent.find(b"/blob/k", HEAD)
        assert known is not None
        assert bytes(recent.body(known) or b"") == b"bytes"
        recent.keep(b"/b/default/k", target, answer, revision)
        assert recent.find(b"/blob/k", HEAD) is None
        assert recent.body(recent.heads[HEAD]) is None
        assert recent.heads[HEAD].head == b""
