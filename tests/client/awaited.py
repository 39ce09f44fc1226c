"""Awaited verbs, called from a thread that blocks."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Self


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Awaited:
    """Calls the awaited verbs of any object from this thread."""

    def __init__(self, inner: Any, loop: Loop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name == "content":
            return Awaited(value, self._loop)
        return (lambda *a, **k: self._call(value, *a, **k)) if callable(value) else value

    def _call(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = verb(*args, **kwargs)
        if asyncio.iscoroutine(result):
            result = self._loop.wait(result)
        has_verbs = any(hasattr(result, name) for name in ("read", "put", "cursor"))
        if hasattr(result, "__anext__") and not has_verbs:
            return iter(self._loop.wait(_collect(result)))
        return Awaited(result, self._loop) if has_verbs else result

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.wait(self._inner.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]
