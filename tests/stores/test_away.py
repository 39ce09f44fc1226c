"""Folders whose object store is away when they are opened, comes back, or is another one then."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import obstore
import pytest
from fault_proxy import Fault, FaultProxy
from object_steps import names, s3

from holdfast.config.objects import connect
from holdfast.core import limits
from holdfast.core.errors import BlobError, UnavailableError
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.ownership import Ownership
from holdfast.depot.stack import Stack
from holdfast.services.away import Away
from holdfast.services.fsck import Fsck, Options
from holdfast.services.scrub import Scrub
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.stores.naming import MARKER
from holdfast.stores.remote import Remote
from holdfast.testing.blobs import make
from holdfast.testing.hand_clock import StillClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.core.digest import Digest
    from holdfast.core.seams import Clock, Entropy
    from holdfast.depot.depot import Depot
    from holdfast.services.fsck import Action

pytestmark = pytest.mark.xdist_group("seaweed")
SMALL, LARGE = make(1000), make(300 * KIB)
OTHERS = b'{"format":1,"id":"that of another"}'


class Far(NamedTuple):
    """A folder, its object store behind a proxy, and a clock."""

    folder: Path
    proxy: FaultProxy
    prefix: str
    clock: StillClock
    what: str

    def open(self) -> Depot:
        client = s3(self.proxy.port, self.prefix)

        def call(url: str, clock: Clock, entropy: Entropy) -> Remote:
            return Remote(client, url, clock, entropy, lambda _: None)

        url = "s3://bench/x"
        stack = Stack(connect=call, large=url) if self.what == "large" else Stack(connect=call)
        if self.what == "cold":
            stack = Stack(connect=call, cold=url)
        return open_depot(self.folder, Limits(stack=stack), clock=self.clock)

    def go(self) -> None:
        """Let the object store be away."""
        self.proxy.fail_from(1, Fault.BUSY)

    def come_back(self) -> None:
        """Let it be there again, and time pass until that is looked at."""
        self.proxy.heal()
        self.clock.moved_s += limits.OBJECT_AWAY_S

    def there(self) -> list[str]:
        """What lies in it."""
        return names(s3(self.proxy.backend_port, self.prefix))

    def marker(self, data: bytes | None) -> bytes:
        """Let it say this of whose it is, or nothing; returns what it said."""
        client = s3(self.proxy.backend_port, self.prefix)
        before = bytes(obstore.get(client, MARKER).bytes()) if MARKER in names(client) else b""
        if data is None:
            obstore.delete(client, MARKER)
        else:
            obstore.put(client, MARKER, data)
        return before


@pytest.fixture
def proxy(s3_port: int) -> Iterator[FaultProxy]:
    with FaultProxy(s3_port).running() as proxy:
        yield proxy


@pytest.fixture
def far(tmp_path: Path, proxy: FaultProxy) -> Far:
    """One with large blobs there, which was closed and went away."""
    far = Far(tmp_path / "data", proxy, tmp_path.name, StillClock(), "large")
    with far.open() as depot:
        for key, data in {"small": SMALL, "large": LARGE}.items():
            depot.put(key, data)
    far.go()
    return far


@pytest.fixture
def cold(tmp_path: Path, proxy: FaultProxy) -> Far:
    """One that has moved all blobs there, and lost the name of one."""
    far = Far(tmp_path / "data", proxy, f"{tmp_path.name}-cold", StillClock(), "cold")
    with far.open() as depot:
        for key, data in {"small": SMALL, "large": LARGE, "gone": make(500)}.items():
            depot.put(key, data)
        far.clock.moved_s += 31 * 86_400
        assert move(depot) == 3
        depot.delete("gone")
    far.go()
    return far


def move(depot: Depot) -> int:
    assert depot.engine.tier is not None
    return sum(moved.blobs for moved in depot.engine.tier.move(limits.COLD_AFTER_S))


def sweep(depot: Depot, clock: StillClock) -> int:
    """Remove what nothing names; say how much."""
    work = sweep_of(depot, Manner(grace_s=0, clock=clock))
    while work.step():
        pass
    return work.report.removed


def refused(act: Callable[[], object], why: str) -> UnavailableError:
    with pytest.raises(UnavailableError, match=why) as caught:
        act()
    return caught.value


def check_nothing_is_done(depot: Depot, far: Far, why: str) -> None:
    """Everybody who lists, writes, moves or removes there is refused, and nothing changes."""
    before = far.there()
    digest = depot.head("large").digest
    before_us = far.clock.now_us() + 1

    def never(digest: Digest, moment: object) -> bool:
        raise AssertionError

    store = depot.engine.store
    for act in (
        lambda: depot.get("large"),
        lambda: depot.put("other", make(400 * KIB)),
        lambda: depot.put("other", make(9 * MIB)),
        lambda: depot.put("large again", LARGE),
        lambda: store.stat([digest]),
        lambda: list(store.scan()),
        lambda: store.remove([digest]),
        lambda: store.expire([digest], before_us, never),
        lambda: sweep(depot, far.clock),
        lambda: list(depot.engine.sweep_uploads(0)),
        lambda: [medium.regions() for medium in depot.engine.media],
        depot.usage,
    ):
        refused(act, why)
    assert sorted(each.key for each in depot.entries()) == ["large", "small"]
    assert far.there() == before


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    names = (record.getMessage() for record in caplog.records)
    return [name for name in names if name.startswith("objects.")]


def test_a_folder_is_opened_while_its_object_store_is_away(
    far: Far, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with far.open() as depot:
        assert depot.get("small") == SMALL
        depot.put("new", make(2000))
        depot.delete("new")
        check_nothing_is_done(depot, far, r"^s3://bench/x: cannot read an object: HTTP 503")
        error = refused(lambda: depot.get("large"), "HTTP 503")
        assert (error.status, error.retry_after_s) == (503, limits.OBJECT_AWAY_S)
        assert "HTTP 503" in depot.stats().away
        far.clock.moved_s += limits.OBJECT_AWAY_S
        refused(lambda: depot.get("large"), "HTTP 503")
        assert told(caplog) == ["objects.away"]
        far.come_back()
        assert depot.get("large") == LARGE
        depot.put("huge", make(9 * MIB))
        assert depot.get("huge") == make(9 * MIB)
        assert depot.stats().away == ""
        assert sweep(depot, far.clock) == 1
        assert told(caplog) == ["objects.away", "objects.back"]


def test_what_is_away_is_asked_seldom_and_by_one_at_a_time(far: Far) -> None:
    """Each look is at most as many requests as one read that fails."""
    with far.open() as depot:
        at = len(far.proxy.requests)
        for _ in range(100):
            refused(lambda: depot.get("large"), "HTTP 503")
        assert len(far.proxy.requests) == at
        far.clock.moved_s += limits.OBJECT_AWAY_S
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: refused(lambda: depot.get("large"), "HTTP 503"), range(50)))
        asked = far.proxy.requests[at:]
        assert 0 < len(asked) <= limits.OBJECT_TRIES_MAX
        assert {each.path.rpartition("/")[2] for each in asked} == {MARKER}


def test_who_comes_while_another_looks_is_refused_at_once(far: Far) -> None:
    waits, go_on = threading.Event(), threading.Event()

    def pause(wait_s: float) -> None:
        waits.set()
        assert go_on.wait(10)

    client, clock = s3(far.proxy.port, far.prefix), StillClock()
    remote = Remote(client, "s3://bench/x", clock, SystemEntropy(), pause)
    ownership = Ownership(remote, msgspec.json.decode(far.marker(None))["id"], "large", clock)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ownership.check)
        assert waits.wait(10)
        refused(ownership.check, "not answered yet")
        far.marker(OTHERS)
        far.proxy.heal()
        go_on.set()
        assert isinstance(first.exception(10), UnavailableError)
    refused(ownership.check, "belongs to another store")


def test_one_that_takes_connections_and_says_nothing_holds_up_nobody_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who starts a server may give it no more than a minute or so."""
    monkeypatch.setattr(limits, "OBJECT_LOOK_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        clock = SystemClock()
        remote = connect("s3://bench/x", clock, SystemEntropy())
        began_s = clock.monotonic_s()
        ownership = Ownership(remote, "ours", "large", clock)
        ownership.open()
        assert clock.monotonic_s() - began_s < 10
        assert ownership.why == "s3://bench/x: cannot read an object: it took too long"


@pytest.mark.parametrize(
    "marker",
    [
        OTHERS,
        None,
        pytest.param(b"?", marks=pytest.mark.slow),
        pytest.param(b'{"format":9,"id":""}', marks=pytest.mark.slow),
    ],
)
def test_what_comes_back_and_is_not_ours_is_never_used(
    far: Far, marker: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    with far.open() as depot:
        own = far.marker(marker)
        far.come_back()
        why = "belongs to another|HOLDFAST is (gone|damaged)|newer holdfast"
        check_nothing_is_done(depot, far, why)
        assert depot.get("small") == SMALL
        assert told(caplog) == ["objects.away", "objects.refused"]
    with pytest.raises(BlobError, match=why):
        far.open()
    far.marker(own)
    with far.open() as depot:
        assert depot.get("large") == LARGE


def test_it_is_used_once_it_is_ours_again(far: Far) -> None:
    with far.open() as depot:
        own = far.marker(OTHERS)
        far.come_back()
        refused(lambda: depot.get("large"), "belongs to another store")
        far.marker(own)
        refused(lambda: depot.get("large"), "belongs to another store")
        far.come_back()
        assert depot.get("large") == LARGE


def test_a_new_object_store_must_be_there(far: Far, tmp_path: Path) -> None:
    """Nobody could say whose it is, and nothing is remembered of it."""
    new = far._replace(folder=tmp_path / "other", prefix="new")
    refused(new.open, "HTTP 503")
    assert not (new.folder / "large").exists()
    far.proxy.heal()
    assert new.there() == []


def test_fsck_and_scrub_find_nothing_missing_while_it_is_away(far: Far) -> None:
    check = Fsck(far.folder, far.open, Options(repair=True, forget=True))
    actions: list[Action | None] = []
    refused(lambda: actions.extend(check.run()), "HTTP 503")
    assert not any(actions)
    with far.open() as depot:
        scrub = Scrub(depot.engine)
        refused(lambda: [scrub.step() for _ in range(1000)], "HTTP 503")
        scrub.close()
        far.come_back()
        assert depot.get("large") == LARGE
    assert check.report.findings == []


def test_a_server_notices_that_it_is_back_though_nobody_asks(far: Far) -> None:
    with far.open() as depot:
        ownership = depot.engine.ownership
        assert ownership is not None
        task = Away(ownership)
        assert task.step().wait_s == limits.OBJECT_AWAY_S
        assert depot.stats().away
        far.come_back()
        task.step()
        assert not depot.stats().away
        at = len(far.proxy.requests)
        assert task.step().wait_s > 600
        assert len(far.proxy.requests) == at
        task.close()


def test_while_a_cold_store_is_away_what_is_here_goes_on(cold: Far) -> None:
    with cold.open() as depot:
        before = cold.there()
        depot.put("young", make(2000))
        for key in ("small", "large"):
            refused(partial(depot.get, key), "HTTP 503")
        depot.put("small again", SMALL)
        assert depot.get("small") == SMALL
        depot.delete("young")
        cold.clock.moved_s += 31 * 86_400
        tier = depot.engine.tier
        assert tier is not None
        refused(lambda: move(depot), "HTTP 503")
        refused(lambda: list(tier.sweep(0)), "HTTP 503")
        sweep(depot, cold.clock)
        assert cold.there() == before
        own = cold.marker(OTHERS)
        cold.come_back()
        refused(lambda: move(depot), "belongs to another store")
        refused(lambda: list(tier.sweep(0)), "belongs to another store")
        sweep(depot, cold.clock)
        cold.marker(own)
        assert cold.there() == before
        cold.clock.moved_s += limits.PASS_OVER_S
        assert depot.get("large") == LARGE
        assert move(depot) == 1
        assert sweep(depot, cold.clock) == 1
