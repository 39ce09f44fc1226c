"""Depots with wrappers: what the folder remembers, who may open it, and who looks after it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import ConflictError, CorruptError, DeniedError, UnsupportedError
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import hold_depot, open_depot
from holdfast.depot.stack import Stack
from holdfast.log import folder as log_folder
from holdfast.services.check import Report
from holdfast.services.fsck import Action, Fsck, Options
from holdfast.services.marks import marks_of
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.stores.wrapper import Wrapper

MASTER = SystemEntropy().random_bytes(32)
BARE = Stack()
COMPRESSED = Stack(compress=True)
ENCRYPTED = Stack(master=MASTER)
BOTH = Stack(compress=True, master=MASTER)
STACKS = {"compressed": COMPRESSED, "encrypted": ENCRYPTED, "both": BOTH}


class Later(SystemClock):
    def now_us(self) -> int:
        return super().now_us() + 60_000_000


def text(size_bytes: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(size_bytes // 7))[:size_bytes]


BLOBS = {
    "empty": b"",
    "small": text(500),
    "middle": text(200 * KIB),
    "noise": SystemEntropy().random_bytes(300 * KIB),
    "large": text(3 * MIB),
    "file": text(9 * MIB),
}


def open_with(folder: Path, stack: Stack) -> Depot:
    return open_depot(folder, Limits(stack=stack))


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> Stack:
    return STACKS[request.param]


@pytest.fixture
def folder(tmp_path: Path, stack: Stack) -> Path:
    """A store with a blob of each size, closed."""
    folder = tmp_path / "store"
    with open_with(folder, stack) as depot:
        for key, data in BLOBS.items():
            depot.put(key, data)
    return folder


def fsck(folder: Path, stack: Stack, *, repair: bool = False) -> tuple[Report, list[Action]]:
    check = Fsck(folder, lambda: open_with(folder, stack), Options(repair, forget=False))
    actions = [action for action in check.run() if action is not None]
    return check.report, actions


def test_what_was_stored_comes_back(folder: Path, stack: Stack) -> None:
    with open_with(folder, stack) as depot:
        for key, data in BLOBS.items():
            assert depot.get(key) == data
            assert (
                depot.get(key, span=holdfast.Span(len(data) // 2, 1000))
                == (data[len(data) // 2 :][:1000])
            )
            assert depot.content.get(Digest.of(data)) == data
        assert list(depot.get_many(BLOBS)) == list(BLOBS.values())
        usage = depot.usage()
    if stack.compress:
        assert usage.file_bytes + usage.live_bytes < sum(map(len, BLOBS.values())) // 2


def test_bytes_and_names_are_still_one_request_to_the_log(tmp_path: Path, stack: Stack) -> None:
    with open_with(tmp_path, stack) as depot:
        depot.put("first", text(500))
        before = depot.engine.facts()["batches"]
        depot.put("second", text(501))
        assert depot.engine.facts()["batches"] - before == 1


# Who may open it


def test_a_compressed_folder_is_opened_so_by_anybody(tmp_path: Path) -> None:
    with open_with(tmp_path, COMPRESSED) as depot:
        depot.put("text", text(3 * MIB))
    with holdfast.open(tmp_path) as bucket:
        assert bucket.get("text") == text(3 * MIB)
        bucket.put("more", text(2 * MIB))
    assert sum(each.stat().st_size for each in tmp_path.rglob("*.blob")) < MIB


@pytest.mark.parametrize("stack", ["encrypted", "both"], indirect=True)
def test_an_encrypted_folder_is_opened_with_its_key_or_not_at_all(folder: Path) -> None:
    for wrong in (BARE, COMPRESSED):
        with pytest.raises(DeniedError, match="is encrypted: say encrypt="):
            open_with(folder, wrong)
    with pytest.raises(DeniedError, match="another master key"):
        open_with(folder, Stack(master=bytes(32)))
    with open_with(folder, ENCRYPTED) as depot:
        assert depot.get("middle") == BLOBS["middle"]


def test_a_folder_with_blobs_is_not_encrypted_later(tmp_path: Path) -> None:
    with open_with(tmp_path, BARE) as depot:
        depot.put("a", b"in the clear")
    for _ in range(2):
        with pytest.raises(ConflictError, match="not encrypted"):
            open_with(tmp_path, ENCRYPTED)
    with open_with(tmp_path, COMPRESSED) as depot:
        assert depot.get("a") == b"in the clear"
    assert not (tmp_path / "keyring").exists()


def test_a_folder_with_blobs_is_compressed_from_now_on(tmp_path: Path) -> None:
    with open_with(tmp_path, BARE) as depot:
        depot.put("old", text(3 * MIB))
    with open_with(tmp_path, COMPRESSED) as depot:
        depot.put("new", text(2 * MIB))
        assert depot.get("old") == text(3 * MIB)
        assert depot.get("new") == text(2 * MIB)
    report, _ = fsck(tmp_path, BARE)
    assert (report.found, report.blobs, report.references) == (0, 2, 2)


def test_older_versions_do_not_open_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads((folder / "HOLDFAST").read_text())["format"] == 3
    monkeypatch.setattr(log_folder, "FORMATS", (1, 2))
    with pytest.raises(UnsupportedError, match="newer"):
        open_with(folder, BOTH)


def test_a_bare_folder_stays_as_it_was(tmp_path: Path) -> None:
    with open_with(tmp_path, BARE) as depot:
        depot.put("a", b"a")
        assert depot.engine.spot(Digest.of(b"a")) is not None
    assert json.loads((tmp_path / "HOLDFAST").read_text())["format"] == 2
    assert not (tmp_path / "wrappers").exists()


@pytest.mark.parametrize("stack", ["both"], indirect=True)
@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"format":9}', b'{"format":1,"compress":"lz4"}', b"\xff"]
)
def test_wrappers_that_cannot_be_read_are_refused(folder: Path, damage: bytes) -> None:
    (folder / "wrappers").write_bytes(damage)
    with pytest.raises((CorruptError, UnsupportedError)):
        open_with(folder, BOTH)


def test_wrappers_with_a_flipped_bit_are_refused_or_the_same(tmp_path: Path) -> None:
    """Whoever opens it without saying what is around the blobs is never given encoded bytes."""
    with open_with(tmp_path, COMPRESSED) as depot:
        depot.put("text", BLOBS["small"])
    path = tmp_path / "wrappers"
    sound = path.read_bytes()
    for place in range(len(sound)):
        for bit in (1, 2, 32):
            path.write_bytes(sound[:place] + bytes((sound[place] ^ bit,)) + sound[place + 1 :])
            try:
                depot = open_depot(tmp_path)
            except (CorruptError, UnsupportedError):
                continue
            with depot:
                assert depot.get("text") == BLOBS["small"]


def test_wrappers_of_a_later_holdfast_are_told_from_damage(folder: Path, stack: Stack) -> None:
    known = json.loads((folder / "wrappers").read_bytes())
    for wanted, error in ((known["format"], CorruptError), (9, UnsupportedError)):
        later = {**known, "format": wanted, "shuffle": "yes"}
        (folder / "wrappers").write_text(json.dumps(later))
        with pytest.raises(error):
            open_with(folder, stack)


@pytest.mark.parametrize("engine", ["segments", "sqlite"])
def test_wrappers_that_are_gone_are_missed(tmp_path: Path, engine: str) -> None:
    url = f"{engine}://{tmp_path}/store?compress=zstd"
    with holdfast.open(url) as bucket:
        bucket.put("text", text(5000))
    (tmp_path / "store" / "wrappers").unlink()
    for target in (url, f"{engine}://{tmp_path}/store"):
        with pytest.raises(CorruptError, match="`wrappers` is gone"):
            holdfast.open(target)


def test_shards_have_wrappers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOBS_KEY", MASTER.hex())
    bare = f"sqlite://{tmp_path}/store?shards=2&compress=zstd"
    url = f"{bare}&encrypt=env:BLOBS_KEY"
    with holdfast.open(url) as bucket:
        for key, data in BLOBS.items():
            bucket.put(key, data)
    with holdfast.open(url) as bucket:
        assert {key: bucket.get(key) for key in BLOBS} == BLOBS
    with pytest.raises(DeniedError):
        holdfast.open(bare)
    files = b"".join(file.read_bytes() for file in (tmp_path / "store").glob("shard_*"))
    assert b"line 1\n" not in files
    assert BLOBS["noise"][:32] not in files
    check = Fsck(
        tmp_path / "store",
        lambda: open_with(tmp_path / "store", BOTH),
        Options(repair=False, forget=False),
    )
    assert [action for action in check.run() if action is not None] == []
    assert (check.report.found, check.report.blobs) == (0, len(BLOBS))


@pytest.mark.parametrize("stack", ["encrypted"], indirect=True)
def test_a_keyring_that_is_gone_is_said_to_be(folder: Path) -> None:
    (folder / "keyring").unlink()
    with pytest.raises(CorruptError, match="keyring of this store is gone"):
        open_with(folder, ENCRYPTED)
    assert not (folder / "keyring").exists()


def test_processes_find_it_prepared(tmp_path: Path, stack: Stack) -> None:
    bounds = Limits(stack=stack)
    with hold_depot(tmp_path, bounds):
        for _ in range(2):
            with open_depot(tmp_path, bounds, attached=True) as one:
                one.put("text", text(MIB))
                assert one.get("text") == text(MIB)


@pytest.mark.parametrize("stack", ["encrypted", "both"], indirect=True)
def test_bytes_on_the_disk_say_nothing(folder: Path) -> None:
    for file in folder.rglob("*"):
        data = file.read_bytes() if file.is_file() else b""
        assert b"line 1\n" not in data
        assert BLOBS["noise"][:32] not in data


# Who looks after it


def test_a_sound_store_is_found_sound(folder: Path, stack: Stack) -> None:
    report, actions = fsck(folder, stack)
    assert (report.found, actions, report.findings) == (0, [], [])
    assert report.blobs == len(BLOBS)
    assert report.references == len(BLOBS)


def damaged_files(folder: Path) -> Iterator[Path]:
    """Every part of the store, with a bit flipped in the middle."""
    for file in (*folder.glob("files/??/*.blob"), *folder.glob("log/*.seg")):
        sound = file.read_bytes()
        middle = len(sound.rstrip(b"\0")) // 2
        file.write_bytes(sound[:middle] + bytes((sound[middle] ^ 1,)) + sound[middle + 1 :])
        yield file
        file.write_bytes(sound)


def test_damage_is_found_and_told_by_digest(folder: Path, stack: Stack) -> None:
    known = {str(Digest.of(data)) for data in BLOBS.values()}
    for _ in damaged_files(folder):
        report, _ = fsck(folder, stack)
        assert report.found
        told = {finding.digest for finding in report.findings if finding.digest}
        assert told
        assert told <= known


@pytest.mark.parametrize("key", ["large", "noise"])
def test_a_whole_content_with_a_damaged_footer_comes_back(
    folder: Path, stack: Stack, key: str
) -> None:
    files = list(folder.glob("files/??/*.blob"))
    for file in files:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    report, actions = fsck(folder, stack, repair=True)
    assert (report.found, len(actions)) == (0, len(files))
    with open_with(folder, stack) as depot:
        assert depot.get(key) == BLOBS[key]


@pytest.mark.parametrize("stack", ["compressed"], indirect=True)
def test_a_plain_content_comes_back_from_a_file_of_the_wrong_size(
    folder: Path, stack: Stack
) -> None:
    """Only the catalog still says how much of it is the blob."""
    name = Digest.of(BLOBS["noise"]).hex()
    with (folder / "files" / name[:2] / f"{name}.blob").open("ab") as file:
        file.write(b"what a disk may do")
    assert fsck(folder, stack)[0].found
    report, _ = fsck(folder, stack, repair=True)
    assert report.found == 0
    with open_with(folder, stack) as depot:
        assert depot.get("noise") == BLOBS["noise"]


def test_swapped_bytes_are_found_by_who_compares_digests(folder: Path, stack: Stack) -> None:
    """Sound for the medium: only what comes out is another blob."""
    with open_with(folder, stack) as depot:
        inner = depot.engine.store
        while isinstance(inner, Wrapper):
            inner = inner.inner
        (one, _), (other, size_bytes) = list(inner.scan())[:2]
        source = inner.open(other)
        assert source is not None
        with source, inner.sink() as sink:
            data = b"".join(iter(lambda: bytes(source.read(MIB)), b""))
            sink.write(data)
            inner.remove([one])
            sink.commit(BlobRef(one, size_bytes)).result()
    report, _ = fsck(folder, stack)
    assert report.found
    with open_with(folder, stack) as depot:
        keys = [key for key in BLOBS if _is_corrupt(depot, key)]
        assert len(keys) == 1


def test_what_nothing_names_is_collected(folder: Path, stack: Stack) -> None:
    with open_with(folder, stack) as depot:
        depot.put("gone", text(2 * MIB + 1))
        depot.put("gone", b"replaced")
        manner = Manner(grace_s=0, clock=Later())  # the log knows times to the second
        work = sweep_of(depot, manner, marks_of(depot.engine))
        while work.step():
            pass
        assert work.report.removed == 1
        assert depot.get("middle") == BLOBS["middle"]
        assert depot.engine.store.stat([Digest.of(text(2 * MIB + 1))]) == {}


def _is_corrupt(depot: Depot, key: str) -> bool:
    try:
        return depot.get(key) != BLOBS[key]
    except CorruptError:
        return True


def test_large_blobs_elsewhere_need_no_wrappers(tmp_path: Path) -> None:
    """They have a format of their own, too."""
    (tmp_path / "objects").mkdir()
    url = f"segments://{tmp_path}/store?large=file://{tmp_path}/objects"
    for target in (url, url, str(tmp_path / "store")):
        with holdfast.open(target) as bucket:
            bucket.put("large", BLOBS["large"])
            assert bucket.get("large") == BLOBS["large"]
    with holdfast.open(f"{url}&compress=zstd") as bucket:
        assert bucket.get("large") == BLOBS["large"]
    (tmp_path / "store" / "wrappers").unlink()
    with pytest.raises(CorruptError, match="`wrappers` is gone"):
        holdfast.open(url)
