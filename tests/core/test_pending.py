import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.core.pending import Promise, settled


def test_a_promise_gives_its_result_to_all_who_wait() -> None:
    promise: Promise[int] = Promise()
    assert not promise.done()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(promise.result, 20) for _ in range(3)]
        errors = pool.submit(promise.exception, 20)
        promise.set_result(7)
        assert [each.result() for each in waiting] == [7, 7, 7]
        assert errors.result() is None
    assert promise.done()
    assert promise.result() == 7


def test_a_promise_raises_its_error() -> None:
    promise: Promise[int] = Promise()
    promise.set_exception(KeyError("k"))
    assert promise.done()
    assert isinstance(promise.exception(), KeyError)
    for _ in range(2):
        with pytest.raises(KeyError):
            promise.result()


def test_waiting_ends_in_time() -> None:
    promise: Promise[int] = Promise()
    with pytest.raises(TimeoutError):
        promise.result(0.01)
    with pytest.raises(TimeoutError):
        promise.exception(0)
    promise.set_result(1)
    assert promise.result(0) == 1


def test_callbacks_are_called_once_whenever_they_come() -> None:
    promise: Promise[str] = Promise()
    seen: list[tuple[str, str]] = []
    promise.add_done_callback(lambda each: seen.append(("before", each.result())))
    assert seen == []
    promise.set_result("x")
    promise.add_done_callback(lambda each: seen.append(("after", each.result())))
    assert seen == [("before", "x"), ("after", "x")]


def test_callbacks_run_in_the_thread_that_settles() -> None:
    promise: Promise[None] = Promise()
    names: list[str] = []
    promise.add_done_callback(lambda _: names.append(threading.current_thread().name))
    thread = threading.Thread(target=promise.set_result, args=(None,), name="settler")
    thread.start()
    thread.join()
    assert names == ["settler"]


def test_a_callback_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    promise: Promise[int] = Promise()
    seen: list[int] = []
    promise.add_done_callback(_fail)
    promise.add_done_callback(lambda each: seen.append(each.result()))
    promise.set_result(1)
    assert seen == [1]
    assert [record.message for record in caplog.records] == ["promise.callback"]


def _fail(_: object) -> None:
    raise KeyError


def test_a_promise_is_settled_once() -> None:
    promise = settled(1)
    with pytest.raises(AssertionError):
        promise.set_result(2)
    with pytest.raises(AssertionError):
        promise.set_exception(KeyError())
    assert promise.result() == 1


def test_nobody_misses_the_end_in_a_race() -> None:
    for _ in range(300):
        _race()


def _race() -> None:
    promise: Promise[int] = Promise()
    called = threading.Event()
    thread = threading.Thread(target=promise.set_result, args=(1,))
    thread.start()
    promise.add_done_callback(lambda _: called.set())
    assert promise.result(20) == 1
    assert called.wait(20)
    thread.join()


def test_callbacks_that_race_with_the_end_are_called_once_each() -> None:
    for _ in range(100):
        promise: Promise[int] = Promise()
        seen: list[object] = []
        thread = threading.Thread(target=promise.set_result, args=(1,))
        for number in range(20):
            promise.add_done_callback(seen.append)
            if number == 10:
                thread.start()
        thread.join()
        assert seen == [promise] * 20
