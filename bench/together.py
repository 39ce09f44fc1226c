"""What the measurements of a library share, ours and others'; needs nothing but Python."""

import hashlib
import threading
import time
from collections.abc import Callable

Figures = dict[str, float]

THREADS = 64
BLOB_BYTES = 1024


def blob(number: int) -> bytes:
    """Make a blob that no other number has and that does not compress."""
    return hashlib.shake_128(number.to_bytes(8, "little")).digest(BLOB_BYTES)


def together(
    step: Callable[[int], bool], finished: Callable[[int], bool], first: int = 0
) -> Figures:
    """Call `step` with rising numbers in 64 threads until `finished`; return the rate."""
    lock = threading.Lock()
    state = {"next": 0, "done": 0}

    def work() -> None:
        while True:
            with lock:
                if finished(state["next"]):
                    return
                number = state["next"]
                state["next"] += 1
            if step(first + number):
                with lock:
                    state["done"] += 1

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"rate": state["done"] / (time.perf_counter() - began), "done": state["done"]}
