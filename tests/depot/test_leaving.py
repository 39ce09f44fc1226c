"""What goes with an owner goes whole, also while some of it changes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from holdfast.core.kv import Committed, Compare, Conflict, Write
from holdfast.core.pending import Pending
from holdfast.core.policy import Owner
from holdfast.core.store import Staged
from holdfast.depot.leaving import leave
from holdfast.depot.local import open_depot
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.log import Log
from holdfast.testing.recount import check_catalog

HOLDS = 25


class Overtaken(EmbeddedKV):
    """Before its first commit with a condition, somebody else changes something."""

    def __init__(self, log: Log, act: Callable[[], object]) -> None:
        super().__init__(log)
        self._acts = [act]

    def commit(
        self,
        compares: Sequence[Compare],
        writes: Sequence[Write],
        *,
        blob: Staged | None = None,
    ) -> Pending[Committed | Conflict]:
        if compares and self._acts:
            self._acts.pop()()
        return super().commit(compares, writes, blob=blob)


def test_a_hold_that_changes_at_that_moment_keeps_no_other(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        depot.engine.names.policies.set_owner(Owner(name="alice"))
        content = depot.content_of("alice")
        digests = sorted(content.put(b"%d" % number) for number in range(HOLDS))
        kv = depot.engine.kv
        assert isinstance(kv, EmbeddedKV)
        overtaken = Overtaken(kv._log, lambda: content.delete(digests[3]))
        assert sum(leave(overtaken, "alice")) >= HOLDS - 1
        assert content.list().digests == []
        assert depot.engine.names.policies.owner_used("alice").entries == 0
        check_catalog(kv)
