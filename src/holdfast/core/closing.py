"""What a `with` statement closes at the end of its block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Self


class _Closes(Protocol):
    def close(self) -> None: ...


class Closing:
    """Gives a class that has `close` the other half of a context manager."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self: _Closes, *error: object) -> None:
        self.close()
