"""Events: what happens without anybody asking, told to the logger `holdfast`.

An event has a name and fields; no message is put together from parts and no secret is ever a
field. A server writes them to its log (http/journal.py), a program where its logging says.
"""

import logging
import traceback

from holdfast.core.errors import Fact

LOGGER = logging.getLogger("holdfast")
FIELDS = "fields"


def event(level: int, name: str, **fields: Fact) -> None:
    """Tell one event."""
    LOGGER.log(level, name, extra={FIELDS: fields})


def defect(error: BaseException, where: str) -> None:
    """Tell an error that only a wrong program raises, with its trace."""
    trace = "".join(traceback.format_exception(error))
    event(logging.ERROR, "defect", where=where, error=repr(error), trace=trace)
