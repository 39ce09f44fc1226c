"""What a command did."""

from collections.abc import Callable
from typing import NamedTuple


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


Holdfast = Callable[..., Result]
