"""One side of the rows about AsyncClient: many requests at once from one process.

`python -m bench.awaited put|get ours|raw PORT SECONDS FIRST` prints its rate as JSON. The raw side
is httpx as it comes, whose pool has as many connections; its body has no digest to compare.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count

import httpx

from bench.together import blob
from holdfast.client import AsyncClient, ClientOptions

AT_ONCE = 64
KEYS = 1000
Step = Callable[[int], Awaitable[object]]


async def main() -> None:
    """Ask for so many seconds; reads are of names that are written before."""
    what, way = sys.argv[1:3]
    port, first = int(sys.argv[3]), int(sys.argv[5])
    url = f"http://127.0.0.1:{port}"
    if way == "ours":
        async with AsyncClient(url, options=ClientOptions(connections_max=AT_ONCE)) as client:
            await _work(
                what, lambda n: client.put(f"{n}", blob(n)), lambda n: client.get(f"{n}"), first
            )
        return
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as raw:

        async def put(n: int) -> None:
            (await raw.put(f"/b/default/{n}", content=blob(n))).raise_for_status()

        async def get(n: int) -> None:
            (await raw.get(f"/b/default/{n}")).raise_for_status()

        await _work(what, put, get, first)


async def _work(what: str, put: Step, get: Step, first: int) -> None:
    if what == "get":
        await _together(put, iter(range(first, first + KEYS)), float("inf"))
    numbers = count(first)
    step = put if what == "put" else lambda n: get(first + n % KEYS)
    seconds = float(sys.argv[4])
    began = time.perf_counter()
    done = await _together(step, numbers, began + seconds)
    print(json.dumps({"rate": done / (time.perf_counter() - began)}))


async def _together(step: Step, numbers: Iterator[int], end_s: float) -> int:
    done = 0

    async def one() -> None:
        nonlocal done
        for number in numbers:
            await step(number)
            done += 1
            if time.perf_counter() > end_s:
                return

    await asyncio.gather(*[one() for _ in range(AT_ONCE)])
    return done


if __name__ == "__main__":
    asyncio.run(main())
