"""Heads of answers given lately, when commits come at the worst moments."""

from pathlib import Path

from holdfast.depot.local import open_depot
from holdfast.http import route
from holdfast.http.message import Request
from holdfast.http.recent import Recent
from holdfast.http.site import Site
from holdfast.kv.embedded import EmbeddedKV

PATH = b"/b/recent/k"


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
        recent = Recent(depot.engine.store, late)
        target = route.resolve("GET", PATH)
        before = late.revision()
        answer = Site(depot).read(Request("GET", PATH, b"", {}), target, wait=True)
        assert answer is not None
        bucket.put("k", b"new")
        recent.keep(PATH, target, answer, before)
        late.announced = depot.engine.kv.revision()
        assert recent.find(PATH) is None


def test_a_head_is_kept_while_other_names_change(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        bucket = depot.bucket("recent")
        bucket.put("k", b"old")
        recent = Recent(depot.engine.store, depot.engine.kv)
        target = route.resolve("GET", PATH)
        before = depot.engine.kv.revision()
        answer = Site(depot).read(Request("GET", PATH, b"", {}), target, wait=True)
        assert answer is not None
        bucket.put("other", b"x")
        recent.keep(PATH, target, answer, before)
        known = recent.find(PATH)
        assert known is not None
        assert recent.body(known) == b"old"
        bucket.put("k", b"new")
        assert recent.find(PATH) is None
