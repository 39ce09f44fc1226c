import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.core.seams import Buffer, Disk, SystemClock, SystemEntropy, boot_id

FLAGS = os.O_RDWR | os.O_CREAT


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def descriptor(disk: Disk, tmp_path: Path) -> Iterator[int]:
    descriptor = disk.open(tmp_path / "file", FLAGS)
    yield descriptor
    disk.close(descriptor)


@contextmanager
def no_file_over(size_bytes: int) -> Iterator[None]:
    """Let the kernel write short at `size_bytes`, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_opened_files_are_private_and_not_inherited(disk: Disk, tmp_path: Path) -> None:
    descriptor = disk.open(tmp_path / "new", FLAGS)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(descriptor)
    disk.close(descriptor)


def test_symbolic_links_are_not_followed(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic") as caught:
        disk.open(tmp_path / "link", FLAGS)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("count", [0, 1, 3, 1024, 1025, 3000])
def test_any_number_of_buffers_is_written(disk: Disk, descriptor: int, count: int) -> None:
    buffers = [b"%d," % number for number in range(count)]
    data = b"".join(buffers)
    assert disk.pwrite_all(descriptor, buffers, 5) == len(data)
    assert disk.pread(descriptor, 100_000, 5) == data


def test_a_short_write_is_finished_or_says_why(disk: Disk, descriptor: int) -> None:
    """The kernel writes up to the bound, then refuses; all kinds of buffers are one stream."""
    buffers: list[Buffer] = [b"a" * 600, bytearray(b"b" * 600), memoryview(b"c" * 600)]
    with no_file_over(1000), pytest.raises(OSError, match="large") as caught:
        disk.pwrite_all(descriptor, buffers, 0)
    assert caught.value.errno == errno.EFBIG
    assert disk.pread(descriptor, 9999, 0) == b"a" * 600 + b"b" * 400


def test_the_rest_of_a_short_write_goes_where_it_belongs(disk: Disk, descriptor: int) -> None:
    disk._write_rest(descriptor, b"0123456789", 100, 4)
    assert disk.pread(descriptor, 20, 104) == b"456789"


def test_reading_stops_at_the_end_of_the_file(disk: Disk, descriptor: int) -> None:
    disk.pwrite_all(descriptor, [b"0123456789"], 0)
    assert disk.pread(descriptor, 4, 3) == b"3456"
    assert disk.pread(descriptor, 99, 3) == b"3456789"
    assert disk.pread(descriptor, 99, 10) == b""
    assert disk.pread(descriptor, 99, 1000) == b""
    assert disk.pread(descriptor, 0, 0) == b""


def test_a_short_read_is_gone_on_with(disk: Disk) -> None:
    """Files of the kernel give a page at a time."""
    path = Path("/proc/kallsyms")
    descriptor = disk.open(path, os.O_RDONLY)
    assert len(os.pread(descriptor, 50_000, 0)) < 50_000
    with path.open("rb") as file:
        assert disk.pread(descriptor, 50_000, 0) == file.read(50_000)
    disk.close(descriptor)


def test_a_cached_read_gives_all_or_nothing(disk: Disk, descriptor: int) -> None:
    disk.pwrite_all(descriptor, [b"0123456789"], 0)
    found = disk.pread_cached(descriptor, 4, 3)
    assert found in (b"3456", None)
    assert disk.pread_cached(descriptor, 99, 3) is None
    assert disk.pread_cached(-1, 4, 3) is None


def test_space_may_be_reserved_and_cut(disk: Disk, descriptor: int) -> None:
    disk.pwrite_all(descriptor, [b"0123456789"], 0)
    disk.allocate(descriptor, 10, 90)
    assert disk.pread(descriptor, 200, 0) == b"0123456789" + bytes(90)
    disk.truncate(descriptor, 4)
    assert disk.pread(descriptor, 200, 0) == b"0123"
    disk.sync(descriptor)
    disk.sync_data(descriptor)


def test_names_are_replaced_and_removed(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    disk.rename(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"a"
    disk.unlink(tmp_path / "b")
    disk.sync_directory(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        disk.unlink(tmp_path / "b")


def test_a_directory_is_made_with_its_parents_once(disk: Disk, tmp_path: Path) -> None:
    for _ in range(2):
        disk.make_directory(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_clocks_go_forward_and_entropy_does_not_repeat() -> None:
    clock, entropy = SystemClock(), SystemEntropy()
    assert clock.now_us() > 1_700_000_000_000_000
    assert clock.monotonic_s() <= clock.monotonic_s()
    assert len({entropy.random_bytes(16) for _ in range(100)}) == 100
    assert len(entropy.random_bytes(5)) == 5


def test_the_boot_has_a_name_where_the_kernel_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot_id() == boot_id()

    def refuse(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert boot_id() == ""
