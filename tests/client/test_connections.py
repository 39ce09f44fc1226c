"""Connections: the one used last is used next, few stay, none after the end."""

from typing import Any

import pytest
from awaited import Loop

from holdfast.client import AsyncClient, Client, ClientOptions
from holdfast.client.connections import Connections
from holdfast.core.errors import UnavailableError

FEW = ClientOptions(connections_max=3)


def test_what_was_given_back_last_is_taken_next() -> None:
    connections = Connections(object, 2)
    first, second = connections.take(), connections.take()
    assert first is not second
    assert connections.is_kept(first)
    assert connections.is_kept(second)
    assert connections.take() is second
    assert connections.take() is first


def test_no_more_stay_idle_than_are_wanted() -> None:
    connections = Connections(object, 2)
    taken = [connections.take() for _ in range(5)]
    assert [connections.is_kept(one) for one in taken] == [True, True, False, False, False]
    assert set(connections.take_all()) == set(taken[:2])


def test_after_the_end_none_is_made_and_none_is_kept() -> None:
    connections = Connections(object, 2)
    idle, used = connections.take(), connections.take()
    assert connections.is_kept(idle)
    assert set(connections.take_all()) == {idle, used}
    assert not connections.is_kept(used)
    with pytest.raises(UnavailableError, match="the client is closed"):
        connections.take()


def _idle(link: Any) -> int:
    return len(link._connections._idle)


def test_files_take_connections_and_give_back_as_many_as_may_idle(url: str) -> None:
    with Client(url, options=FEW) as client:
        client.put("k", b"content")
        assert _idle(client._link) == 1
        files = [client.open("k") for _ in range(6)]
        assert client.get("k") == b"content", "files keep no call waiting"
        for file in files:
            assert file.read() == b"content"
            file.close()
            file.close()
        assert _idle(client._link) == 3
        client.content.delete(client.head("k").digest)
    with pytest.raises(UnavailableError, match="the client is closed"):
        client.get("k")


def test_awaited_files_do_the_same(url: str, loop: Loop) -> None:
    async def live() -> None:
        async with AsyncClient(url, options=FEW) as client:
            await client.put("k", b"content")
            files = [await client.open("k") for _ in range(6)]
            assert await client.get("k") == b"content", "files keep no call waiting"
            for file in files:
                assert await file.read() == b"content"
                await file.close()
                await file.close()
            assert _idle(client._link) == 3
            with pytest.raises(LookupError):
                await client.open("nothing")
            assert _idle(client._link) == 3
        with pytest.raises(UnavailableError, match="the client is closed"):
            await client.get("k")

    loop.wait(live())
