"""Migration: all that a store has, and nothing else, comes to be in another one."""

from __future__ import annotations

import shutil
from itertools import count, islice, pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import pytest
from click.testing import CliRunner, Result
from filled import (
    ENGINES,
    LARGE,
    MASTER,
    NEXT,
    VARIABLE,
    blobs_of,
    catalog_of,
    fill,
    opened,
    rows,
    url_of,
)
from steps import flip

from holdfast.cli import cli
from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    CompactedError,
    ConflictError,
    CorruptError,
    InvalidError,
    NotFoundError,
    UnsupportedError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.policy import bucket_of
from holdfast.core.progress import Phase
from holdfast.core.stream import Cursor
from holdfast.core.webhook import Webhook
from holdfast.depot.depot import Depot
from holdfast.depot.events import latest
from holdfast.depot.local import open_depot
from holdfast.services.migration import Manner, Migration, Moved
from holdfast.testing.blobs import make
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.hand_clock import StillClock
from holdfast.testing.recount import check_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAIRS = [(one, other) for one in ENGINES for other in ENGINES]
SOME = [pytest.param(*pair, marks=() if pair in NEXT else pytest.mark.slow) for pair in PAIRS]
TABLES = {*b"egvruwdbokphz"}


@pytest.fixture(autouse=True)
def _master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, MASTER)


def migrate(source: Depot, target: Depot, manner: Manner | None = None) -> Moved:
    migration = Migration(source, target, manner or Manner())
    for _ in migration.run():
        pass
    return migration.moved


def steps_of(migration: Migration) -> list[int]:
    """How many bytes each step moved, as it says."""
    done = [phase.done - phase.spared for phase in migration.run() if phase.name == "moving"]
    return [behind - before for before, behind in pairwise([0, *done])]


@pytest.mark.parametrize(("one", "other"), SOME)
def test_all_of_a_store_moves_between_any_two(tmp_path: Path, one: str, other: str) -> None:
    """Also while both are open again."""
    urls = url_of(one, tmp_path / "one"), url_of(other, tmp_path / "other")
    with opened(urls[0]) as source, opened(urls[1]) as target:
        fill(source)
        assert {row.key[0] for row in rows(source)} >= TABLES
        moved = migrate(source, target, Manner(verify=True))
        assert moved.rows == len(rows(source))
        assert moved.blobs == moved.verified == len(blobs_of(source))
        assert catalog_of(target) == catalog_of(source)
    with opened(urls[0]) as source, opened(urls[1]) as target:
        assert blobs_of(target) == blobs_of(source)
        check_catalog(target.engine.kv)
        assert target.get("large") == LARGE
        assert target.get("late") == b"goes by itself"
        assert target.head("late") == source.head("late")
        kept = target.bucket(bucket_of("ann", "kept"))
        assert kept.get("versions", version=0) == b"version 0"
        assert kept.undelete("deleted").size_bytes == 12
        stored = dict.fromkeys(ref.digest for ref in target.engine.store.scan())
        assert stored.keys() == {ref.digest for ref in blobs_of(source)}
        assert Digest.of(b"nobody holds me") not in stored


def test_a_run_that_was_broken_off_at_any_call_is_begun_again(tmp_path: Path) -> None:
    """The disk of the new store fails at one call, and all that follow."""
    with opened(tmp_path / "one") as source:
        fill(source)
        for number in count(1, 23):
            folder = tmp_path / f"other {number}"
            disk = FaultyDisk()
            target = open_depot(folder, disk=disk)
            disk.arm(Fault(number, lasting=True))
            try:
                migrate(source, target)
            except BlobError:
                assert disk.struck
            is_done = not disk.struck
            try:
                target.close()
            except (BlobError, OSError):
                assert disk.struck
            with opened(folder) as target:
                check = migrate(source, target, Manner(verify=True))
                assert catalog_of(target) == catalog_of(source)
                assert not is_done or check.rows == check.blobs == 0
            if is_done:
                return


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        fill(source)
        first = migrate(source, target)
        revision = target.engine.kv.revision()
        again = migrate(source, target)
        assert (again.rows, again.blobs) == (0, 0)
        assert (again.rows_there, again.blobs_there) == (first.rows, first.blobs)
        assert target.engine.kv.revision() == revision


@pytest.mark.parametrize("what", ["another name", "another blob", "a deleted name"])
def test_what_the_new_store_has_otherwise_is_never_written_over(tmp_path: Path, what: str) -> None:
    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        fill(source)
        if what == "another name":
            target.put("mine", b"precious")
        elif what == "another blob":
            target.put("large", b"precious")
        else:
            migrate(source, target)
            source.delete("late")
        before = catalog_of(target)
        for manner in (Manner(), Manner(dry_run=True)):
            name = {"another name": "default/mine", "another blob": "default/large"}
            with pytest.raises(ConflictError, match="begin with an empty one") as caught:
                migrate(source, target, manner)
            assert name.get(what, "default/late") in caught.value.message
        assert catalog_of(target) == before


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        fill(source)
        would = migrate(source, target, Manner(dry_run=True))
        assert rows(target) == []
        assert list(target.engine.store.scan()) == []
        assert migrate(source, target) == would


def test_a_blob_that_is_damaged_or_missing_stops_before_any_name(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as source:
        fill(source)
    files = sorted((tmp_path / "one" / "files").rglob("*.blob"))
    flip(files[0], 70_000)
    files[1].unlink()
    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        with pytest.raises(CorruptError, match="2 blobs are damaged, and no name was moved"):
            migrate(source, target)
        assert rows(target) == []
        for data in (make(300 * KIB), make(2 * MIB), LARGE):
            source.put("mended", data)
        migrate(source, target, Manner(verify=True))
        assert catalog_of(target) == catalog_of(source)


def test_verifying_finds_what_the_new_store_has_damaged(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as source:
        fill(source)
        with opened(tmp_path / "other") as target:
            migrate(source, target)
        flip(next((tmp_path / "other" / "files").rglob("*.blob")), 5000)
        with opened(tmp_path / "other") as target, pytest.raises(CorruptError, match="damaged"):
            migrate(source, target, Manner(verify=True))


def test_it_reads_no_faster_than_allowed(tmp_path: Path) -> None:
    clock = StillClock()

    def pause(seconds: float) -> None:
        clock.moved_s += seconds

    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        fill(source)
        manner = Manner(bytes_s_max=MIB, clock=clock, pause=pause)
        moved = migrate(source, target, manner)
        assert clock.moved_s == pytest.approx(moved.blob_bytes / MIB)


def test_memory_holds_no_large_blob(tmp_path: Path) -> None:
    """What each step moves is a chunk, or what one append takes."""
    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        fill(source)
        steps = steps_of(Migration(source, target))
    assert sum(steps) > len(LARGE)
    assert max(steps) <= limits.BATCH_BYTES_MAX


def test_webhooks_stand_at_the_end_and_are_not_told_of_what_moved(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        fill(source)
        migrate(source, target)
        found = target.engine.webhooks.standing("hook")
        assert found is not None
        end = latest(target.engine.kv)
        assert found[0].cursor == str(Cursor(end.revision - 1))
        assert found[0].lost_us > 0  # it was told of nothing yet
        with target.events(wait_s=0, from_=Cursor(end.revision - 1)) as events:
            assert list(islice(events, 1)) == []


@pytest.mark.parametrize("other", ["folder", "shards"])
def test_readers_of_events_go_on_behind_a_migration(tmp_path: Path, other: str) -> None:
    """Who had read all; others are refused."""
    url = url_of(other, tmp_path / "other")
    with opened(tmp_path / "one") as source:
        fill(source)
        end = latest(source.engine.kv)
        with opened(url) as target:
            migrate(source, target)
            target.put("behind", b"1")
    with opened(url) as target:
        assert next(target.events(end)).key == "behind"
        for cursor in (Cursor(1), Cursor(end.revision - 1)):
            with pytest.raises(CompactedError):
                target.events(cursor)


def test_a_webhook_that_was_told_all_that_it_wants_misses_nothing(tmp_path: Path) -> None:
    """What it does not want, and commits that say nothing of names, are not missed."""
    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        hooks = source.engine.webhooks
        for name, bucket in (("told", "mine"), ("missing", "others")):
            hooks.put(Webhook(name=name, bucket=bucket, url="https://example.org/"))
        source.bucket("others").put("name", b"bytes")
        migrate(source, target)
        moved = {name: target.engine.webhooks.standing(name) for name in ("told", "missing")}
        lost = {name: found is not None and found[0].lost_us > 0 for name, found in moved.items()}
        assert lost == {"told": False, "missing": True}


def test_it_is_no_faster_than_it_may_be_and_says_how_far_it_is(tmp_path: Path) -> None:
    """A second passes only while it waits: so it waits as long as the bytes should have taken."""
    clock = StillClock()

    def pause(wait_s: float) -> None:
        assert wait_s > 0
        clock.moved_s += wait_s

    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        for number in range(4):
            source.put(f"{number}", make(3 * MIB, seed=number))
        manner = Manner(bytes_s_max=MIB, clock=clock, pause=pause)
        migration = Migration(source, target, manner)
        steps = steps_of(migration)
        assert sum(steps) == migration.moved.blob_bytes == 12 * MIB
        assert max(steps) <= MIB
        assert clock.moved_s == pytest.approx(12)


def test_each_phase_says_how_much_there_is_and_what_was_there_before(tmp_path: Path) -> None:
    """Also in a run that goes on behind one that was broken off, and in a dry one."""
    with opened(tmp_path / "one") as source, opened(tmp_path / "other") as target:
        fill(source)
        held = sum(ref.size_bytes for ref in blobs_of(source))
        broken_off = Migration(source, target).run()
        far = next(each for each in broken_off if each.name == "moving" and each.done > MIB)
        broken_off.close()
        assert (far.total, far.spared) == (held, 0)
        last: dict[str, Phase] = {}
        for manner in (Manner(dry_run=True), Manner(verify=True)):
            phases = list(Migration(source, target, manner).run())
            assert phases[0] == Phase("comparing", 0, None, "rows")
            last = {phase.name: phase for phase in phases}
            moving = last.pop("counting" if manner.dry_run else "moving")
            assert moving.done == moving.total == held
            assert moving.spared >= far.done - MIB
            assert ("verifying" in last) == manner.verify
        assert last["verifying"] == Phase("verifying", held, held)
        assert 0 < last["naming"].done <= (last["naming"].total or 0)


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with opened(one) as source:
        fill(source)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["migrate", *arguments])

    assert "would be moved" in run(str(one), str(other), "--dry-run").output
    assert "blobs verified" in run(str(one), str(other), "--verify", "--rate", "1GiB").output
    again = run(str(one), f"segments://{other}", "--json")
    assert (again.exit_code, msgspec.json.decode(again.output)["rows"]) == (0, 0)
    assert isinstance(run(str(tmp_path / "none"), str(other)).exception, NotFoundError)
    server = "http://127.0.0.1:1"
    for refused, advice in (
        (run(server, str(other)), "--move-to TO"),
        (run(str(one), server), "put --recursive"),
    ):
        assert isinstance(refused.exception, UnsupportedError)
        assert advice in refused.exception.message
    for inside in (one, one / "copy", tmp_path):
        assert isinstance(run(str(one), str(inside)).exception, InvalidError)
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    assert isinstance(run(str(tmp_path / "empty"), str(other)).exception, NotFoundError)
    assert not list((tmp_path / "empty").iterdir())


def test_a_dry_run_leaves_both_stores_as_they_are(tmp_path: Path) -> None:
    """None is made, and none learns of wrappers that its URL names."""
    one, other = tmp_path / "one", tmp_path / "other"
    with opened(one) as source:
        fill(source)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["migrate", *arguments, "--dry-run"])

    wrapped = f"?compress=zstd&encrypt=env:{VARIABLE}&large={(tmp_path / 'large').as_uri()}"
    assert isinstance(run(str(one), f"file://{other}?encrypt=env:NONE").exception, InvalidError)
    first = run(str(one), f"segments://{other}{wrapped}")
    assert "would be moved, 0 rows and 0 blobs were there" in first.output
    assert not other.exists()
    opened(other).close()
    (tmp_path / "large").mkdir()
    again = run(f"segments://{one}{wrapped}", f"segments://{other}{wrapped}")
    assert again.output == first.output
    for folder in (one, other):
        assert not {"wrappers", "keyring", "large"} & {path.name for path in folder.iterdir()}
    assert not list((tmp_path / "large").iterdir())


@pytest.fixture(scope="module", params=ENGINES)
def hundred_thousand(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a store with 100,000 small blobs of a name each, and 20 files or objects."""
    url = url_of(request.param, tmp_path_factory.mktemp("hundred") / "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOBS_KEY", MASTER)
        with opened(url) as source:
            for start in range(0, 100_000, 1000):
                numbers = range(start, start + 1000)
                source.put_many([(f"{number:06d}", b"%d" % number) for number in numbers])
            for number in range(20):
                source.put(f"large {number}", make(300 * KIB + number))
    yield url
    shutil.rmtree(urlsplit(url).path)


@pytest.mark.slow
@pytest.mark.parametrize("other", ENGINES)
def test_a_hundred_thousand_blobs_move(hundred_thousand: str, tmp_path: Path, other: str) -> None:
    """Every pair of engines, with equal scans behind it."""
    target_url = url_of(other, tmp_path / "other")
    with opened(hundred_thousand) as source, opened(target_url) as target:
        moved = migrate(source, target, Manner(verify=True))
        assert moved.blobs == moved.verified == 100_020
        assert list(source.content.digests()) == list(target.content.digests())
        assert all(old == new for old, new in zip(source.entries(), target.entries(), strict=True))
    shutil.rmtree(tmp_path)
