"""A server with Blobnom's own configuration, driven as Blobnom's clients do."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from rawhttp import Connection

import holdfast
from holdfast.shards.routing import fnv1a_64
from holdfast.testing.blobs import make

CONFIG = Path(__file__).parents[2] / "examples" / "blobnom.toml"
TEXT = b"a line of a log\n" * 2000
START_S = 20


class Blobnom:
    """`holdfast serve --config examples/blobnom.toml` in a folder of its own."""

    def __init__(self, folder: Path, config: str) -> None:
        folder.mkdir(exist_ok=True)
        self.data = folder / "data"
        (folder / "config.toml").write_text(config)
        command = [sys.executable, "-m", "holdfast", "serve", "--config", "config.toml", "--port=0"]
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        found = re.search(r":(\d+)\s*$", self.process.stdout.readline())
        assert found is not None, (folder / "log").read_text()
        self.port = int(found[1])

    def ask(self, method: str, key: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with Connection(self.port) as connection:
            reply = connection.ask(method, f"/blob/{quote(key, safe='')}", body, named)
        return reply.status, reply.body

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(START_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def blobnom(folder: Path, **changes: str) -> Iterator[Blobnom]:
    """Serve, with other values for some of its keys."""
    config = CONFIG.read_text()
    for key, value in changes.items():
        config, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", config)
        assert count == 1
    server = Blobnom(folder, config)
    try:
        yield server
    finally:
        server.stop()


def test_the_configuration_has_every_key_of_the_original() -> None:
    found = re.findall(r"(?m)^(\w+) =", CONFIG.read_text())
    assert found == [
        *("data_dir", "num_shards", "storage_compression", "output_compression", "async_write"),
        *("batch_size", "batch_timeout_ms"),
    ]


def test_it_works_as_the_original_says(tmp_path: Path) -> None:
    with blobnom(tmp_path / "served") as server:
        assert server.ask("GET", "k") == (404, server.ask("GET", "k")[1])
        for body in (b"first", b"", TEXT, make(3_000_000)):
            assert server.ask("POST", "k", body)[0] in {200, 201}
            assert server.ask("GET", "k") == (200, body)
        assert server.ask("POST", "new", b"x")[0] == 201
        assert server.ask("DELETE", "new")[0] == 204
        assert server.ask("DELETE", "new")[0] == 204
        assert server.ask("GET", "new")[0] == 404
        for key in ("a/b", "ü ?#%", "user:1000", "k" * 1024):
            assert server.ask("POST", key, key.encode())[0] == 201
            assert server.ask("GET", key) == (200, key.encode())
        assert server.ask("POST", "k" * 1025, b"")[0] == 400
        about = json.loads(_metadata(server, "user:1000"))
        assert (about["key"], about["size"], about["version"]) == ("user:1000", 9, 0)
        assert server.stop() == 0
    files = sorted(path.name for path in server.data.glob("shard_*.db"))
    assert files == [f"shard_{number}.db" for number in range(8)]
    assert server.process.returncode == 0


def test_many_keys_are_set_and_got_by_one_request_each(tmp_path: Path) -> None:
    made = {f"user:{number}": make(100 * number, seed=number) for number in range(50)}
    lines = [
        json.dumps({"name": key, "body_bytes": len(data)}).encode() + b"\n" + data
        for key, data in made.items()
    ]
    with blobnom(tmp_path / "served") as server:
        head = {"Content-Type": "application/vnd.holdfast.many"}
        with Connection(server.port) as connection:
            reply = connection.ask("POST", "/blob", b"".join(lines), head)
        assert reply.status == 200
        stored = [json.loads(line) for line in reply.body.splitlines()]
        assert [each["entry"]["key"] for each in stored] == list(made)
        with Connection(server.port) as connection:
            rest = connection.ask("POST", "/blob", json.dumps({"get": list(made)}).encode()).body
        for key, data in made.items():
            line, _, rest = rest.partition(b"\n")
            assert json.loads(line)["name"] == key
            assert rest.startswith(data)
            rest = rest[len(data) :]
        assert rest == b""


def _metadata(server: Blobnom, key: str) -> bytes:
    with Connection(server.port) as connection:
        return connection.ask("GET", f"/blob/{quote(key)}/metadata").body


def test_text_is_small_on_the_disk_and_on_the_way(tmp_path: Path) -> None:
    with blobnom(tmp_path / "served") as server:
        assert server.ask("POST", "log.txt", TEXT * 50, content_type="text/plain")[0] == 201
        assert server.ask("GET", "log.txt") == (200, TEXT * 50)
        assert len(server.ask("GET", "log.txt", accept_encoding="zstd")[1]) < len(TEXT)
    stored = sum(path.stat().st_size for path in server.data.glob("shard_*.db"))
    assert stored < len(TEXT * 50)


@pytest.mark.parametrize("value", ["0", "-1", "257", "'four'"])
def test_a_wrong_number_of_shards_starts_nothing(tmp_path: Path, value: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(re.sub(r"num_shards = \d+", f"num_shards = {value}", CONFIG.read_text()))
    command = [sys.executable, "-m", "holdfast", "serve", "--config", str(config), "--port=0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "config.toml:5" in done.stderr
    assert not (tmp_path / "data").exists()


def test_another_number_of_shards_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with blobnom(tmp_path / "served") as server:
        assert server.ask("POST", "k", b"value")[0] == 201
    (server.data / "lost+found").mkdir()
    (tmp_path / "served" / "config.toml").write_text(
        CONFIG.read_text().replace("num_shards = 8", "num_shards = 4")
    )
    command = [sys.executable, "-m", "holdfast", "serve", "--config", "config.toml", "--port=0"]
    done = subprocess.run(
        command, cwd=tmp_path / "served", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "has 8" in done.stderr
    assert "holdfast reshard" in done.stderr
    with blobnom(tmp_path / "served") as server:
        assert server.ask("GET", "k") == (200, b"value")


def test_writes_that_come_together_share_a_batch_and_each_has_its_answer(tmp_path: Path) -> None:
    with blobnom(tmp_path / "served", batch_timeout_ms="20") as server:
        with ThreadPoolExecutor(32) as pool:
            keys = [f"{number}" if number % 8 else "k" * 2000 for number in range(256)]
            statuses = list(pool.map(lambda key: server.ask("POST", key, key.encode())[0], keys))
        assert statuses == [400 if len(key) > 1024 else 201 for key in keys]
        with Connection(server.port) as connection:
            metrics = connection.ask("GET", "/metrics").body.decode()
        batches = float(re.findall(r"(?m)^holdfast_log_batches (\S+)", metrics)[0])
        assert batches < 224 / 2
        assert all(server.ask("GET", key) == (200, key.encode()) for key in keys[1:50:8])


def test_a_full_batch_does_not_wait_and_a_lonely_write_does(tmp_path: Path) -> None:
    with blobnom(tmp_path / "served", batch_size="2", batch_timeout_ms="1500") as server:
        begun = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            assert set(pool.map(lambda key: server.ask("POST", key, b"x")[0], "ab")) == {201}
        together_s = time.monotonic() - begun
        begun = time.monotonic()
        assert server.ask("POST", "c", b"x")[0] == 201
        assert time.monotonic() - begun >= 1.4
        assert together_s < 1.4


def test_async_writes_are_202_read_back_at_once_and_drained_by_a_stop(tmp_path: Path) -> None:
    keys = [f"{number}" for number in range(200)]
    with blobnom(tmp_path / "served", async_write="true", batch_timeout_ms="200") as server:
        assert server.ask("POST", "k", b"old")[0] == 202
        assert server.ask("POST", "k", b"new")[0] == 202
        assert server.ask("GET", "k") == (200, b"new")
        assert server.ask("DELETE", "k")[0] == 202
        assert server.ask("GET", "k")[0] == 404
        with Connection(server.port) as connection:
            for key in keys:
                assert connection.ask("POST", f"/blob/{key}", key.encode()).status == 202
        assert server.stop() == 0
    with holdfast.open(server.data) as bucket:
        assert {entry.key: bucket.get(entry.key) for entry in bucket.entries()} == {
            key: key.encode() for key in keys
        }


def test_readers_go_on_while_writers_write(tmp_path: Path) -> None:
    with blobnom(tmp_path / "served") as server:
        assert server.ask("POST", "read", TEXT)[0] == 201
        stop = threading.Event()

        def write(thread: int) -> int:
            written = 0
            while not stop.is_set():
                written += server.ask("POST", f"{thread}/{written}", make(100_000))[0] == 201
            return written

        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(write, thread) for thread in range(4)]
            try:
                for _ in range(50):
                    assert server.ask("GET", "read") == (200, TEXT)
            finally:
                stop.set()
            assert all(each.result() > 0 for each in writing)


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with blobnom(tmp_path / "served", batch_timeout_ms="2") as server:
        with ThreadPoolExecutor(8) as pool:
            keys = [f"{number}" for number in range(64)]
            assert set(pool.map(lambda key: server.ask("POST", key, make(5000))[0], keys)) == {201}
        server.process.kill()
        server.process.wait()
    with blobnom(tmp_path / "served") as again:
        assert all(again.ask("GET", key) == (200, make(5000)) for key in keys)
    for key in keys[:8]:
        path = server.data / f"shard_{fnv1a_64(key.encode()) % 8}.db"
        assert path.exists()
