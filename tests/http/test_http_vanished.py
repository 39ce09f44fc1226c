"""Bytes that go between the look at a name and the opening, as a sweep may let them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, CorruptError, NotFoundError, UnavailableError
from holdfast.core.store import Source, Span
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.http.message import Answer, Request
from holdfast.http.route import resolve
from holdfast.http.site import Site

OLD, NEW = b"old bytes", b"new bytes"


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    with open_depot(tmp_path) as depot:
        depot.put("k", OLD)
        yield depot


def ask(depot: Depot, path: str, *, wait: bool = True) -> Answer | None:
    request = Request("GET", path.encode(), b"", {b"host": b"test"}, "")
    return Site(depot).read(request, resolve("GET", path.encode()), wait=wait)


def meanwhile(depot: Depot, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act just before a blob is opened, until there is nothing to do."""
    store = depot.engine.store
    inner = store.open

    def opened(digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        act()
        return inner(digest, span, wait=wait)

    monkeypatch.setattr(store, "open", opened)


@pytest.mark.parametrize("path", ["/blob/k", f"/blobs/{Digest.of(OLD)}"])
def test_a_name_that_goes_with_its_bytes_is_not_found(
    depot: Depot, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def act() -> None:
        depot.delete("k")
        depot.engine.store.remove([Digest.of(OLD)])

    meanwhile(depot, monkeypatch, act)
    with pytest.raises(NotFoundError):
        ask(depot, path)


def test_a_name_that_is_replaced_gives_the_new_bytes(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        if depot.head("k").digest == Digest.of(OLD):
            depot.put("k", NEW)
            depot.engine.store.remove([Digest.of(OLD)])

    meanwhile(depot, monkeypatch, act)
    answer = ask(depot, "/blob/k")
    assert answer is not None
    assert answer.body == NEW


def test_without_waiting_nothing_is_decided(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.engine.store.remove([Digest.of(OLD)])
    assert ask(depot, "/blob/k", wait=False) is None


@pytest.mark.parametrize("path", ["/blob/k", f"/blobs/{Digest.of(OLD)}"])
def test_bytes_that_are_missing_under_a_name_that_stays_are_corrupt(
    depot: Depot, path: str
) -> None:
    depot.engine.store.remove([Digest.of(OLD)])
    with pytest.raises(CorruptError):
        ask(depot, path)


def test_a_name_that_never_stands_still_is_given_up(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(10_000))

    def act() -> None:
        before = depot.head("k").digest
        depot.put("k", b"%d" % next(numbers))
        depot.engine.store.remove([before])

    meanwhile(depot, monkeypatch, act)
    with pytest.raises(UnavailableError):
        depot.get("k")
    with pytest.raises(BlobError):
        ask(depot, "/blob/k")
