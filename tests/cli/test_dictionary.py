"""Dictionaries, as the command line trains and lists them."""

import json
from pathlib import Path

import pytest
from result import Holdfast

import holdfast as library

WORDS = ("stone", "river", "cloud", "meadow", "forest", "ocean")


def page(number: int) -> bytes:
    word = WORDS[number % len(WORDS)]
    text = {"identifier": number, "kind": word, "title": f"Of {word}s", "is_public": True}
    return json.dumps(text | {"link": f"https://example.org/{word}/{number}"}).encode()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with many small blobs, not compressed."""
    with library.open(tmp_path / "store") as bucket:
        bucket.put_many({f"{number}": page(number) for number in range(500)}.items())
    return tmp_path / "store"


def test_a_dictionary_is_trained_kept_and_used(store: Path, holdfast: Holdfast) -> None:
    refused = holdfast("dictionary", "train", store)
    assert "say compress=zstd" in refused.err
    done = holdfast("dictionary", "train", f"segments://{store}?compress=zstd")
    assert done.code == 0
    assert "other blobs come to" in done.out.decode()
    (first,) = holdfast("dictionary", "list", store).out.decode().splitlines()
    assert first.endswith("  for new blobs")
    with library.open(store) as bucket:
        bucket.put("new", page(1000))
        assert bucket.get("new") == page(1000)
        assert bucket.get("7") == page(7)
    figures = json.loads(holdfast("dictionary", "train", store, "--json").out)
    assert figures["trained_bytes"] < figures["plain_bytes"] < figures["blob_bytes"]
    assert len(holdfast("dictionary", "list", store).out.splitlines()) == 2
    assert "small ones by a dictionary" in holdfast("config", "explain", store).out.decode()


def test_a_dictionary_goes_into_a_file_for_another_store(
    store: Path, tmp_path: Path, holdfast: Holdfast
) -> None:
    file = tmp_path / "pages.zdict"
    assert holdfast("dictionary", "train", store, "--output", file).code == 0
    assert holdfast("dictionary", "list", store).out == b""
    assert holdfast("dictionary", "train", store, "--output", file).code == 1
    with library.open(f"segments://{tmp_path}/new?compress=zstd&dictionary={file}") as bucket:
        bucket.put("one", page(1))
        assert bucket.get("one") == page(1)
    assert len(holdfast("dictionary", "list", tmp_path / "new").out.splitlines()) == 1
