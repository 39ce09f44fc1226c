"""Amounts that commands take: sizes with units, and the word for no limit."""

import click

from holdfast.config.kinds import Size
from holdfast.core.limits import WHOLE_MAX

NONE = "none"


class Amount(click.ParamType[int | str]):
    """A number, perhaps of bytes with a unit, or `none`."""

    name = "amount"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Read it; `none` stays."""
        kind = Size(WHOLE_MAX)
        if value == NONE:
            return NONE
        try:
            found = kind.read(kind.from_text(str(value)))
        except ValueError:
            found = None
        if not isinstance(found, int) or found < self._least:
            self.fail(f"{value!r}: a number such as 1000 or 10GiB, or {NONE}", param, ctx)
        return found


AMOUNT = Amount()


def said(options: dict[str, object]) -> dict[str, object]:
    """The members that were given, where `none` is null."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return {name: None if value == NONE else value for name, value in given.items()}
