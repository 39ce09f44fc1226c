"""An epoch that did not come to its end everywhere is taken back where it did.

The next epoch begins when the last is done in all shards that take part. So only the newest can be
partial, and every shard that has it knows who takes part, and which epoch was the last of every
other shard before. A shard that should have an epoch and does not, or has one that nobody else
knows of, is not the one that was here: an older copy, for instance.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from holdfast.core.errors import CorruptError
from holdfast.core.events import event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.shards.shard import Shard


def recover(shards: Sequence[Shard]) -> bool:
    """Take a partial epoch back, or do nothing; say which.

    It may be interrupted and done again.

    Raises:
        CorruptError: a shard is not as the others know it.
        FullError, UnavailableError: the disk refuses.
    """
    newest = max((shard.state for shard in shards), key=lambda state: state.epoch)
    if newest.epoch == 0:
        return False
    for shard in shards:
        _check(
            shard,
            newest.epoch,
            newest.before[shard.number],
            is_member=shard.number in newest.members,
        )
    have = [shard for shard in shards if shard.state.epoch == newest.epoch]
    if len(have) == len(newest.members):
        return False
    event(logging.WARNING, "shards.undone", epoch=newest.epoch, shards=len(have))
    for shard in have:
        shard.undo(newest.epoch)
    return True


def _check(shard: Shard, epoch: int, before: int, *, is_member: bool) -> None:
    if shard.state.epoch == before or (is_member and shard.state.epoch == epoch):
        return
    raise CorruptError(
        f"{shard.path.name} is not the file that belongs here: it is at epoch {shard.state.epoch},"
        f" and the other shards know it at {before}; put back the file that was here, or restore"
        " all shards from one backup",
        shard=shard.number,
    )
