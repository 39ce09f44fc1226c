"""What the tests of mending are made of: fsck, what there is, and damage that only it finds."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.core.errors import CorruptError
from holdfast.core.seams import Disk
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.log.index import Index
from holdfast.log.state import clean_state
from holdfast.services.check import Report
from holdfast.services.fsck import Action, Fsck, Options

Files = dict[Path, bytes]
Names = dict[str, bytes | None]


def fsck(
    folder: Path, *, repair: bool = False, forget: bool = False
) -> tuple[Report, list[Action]]:
    check = Fsck(folder, lambda: open_depot(folder), Options(repair, forget))
    actions = [action for action in check.run() if action is not None]
    return check.report, actions


def kinds(report: Report) -> list[str]:
    return sorted(finding.kind for finding in report.findings)


def files(folder: Path) -> Files:
    """What the store is made of."""
    parts = [*(folder / "log").glob("*.seg"), *(folder / "files").rglob("*.blob")]
    return {path: path.read_bytes() for path in parts}


def contents(depot: Depot) -> Names:
    """Every name with its bytes; None where these are lost."""
    found: Names = {}
    for bucket in ("default", "other", "more"):
        for entry in depot.bucket(bucket).entries():
            try:
                found[f"{bucket}/{entry.key}"] = depot.bucket(bucket).get(entry.key)
            except CorruptError:
                found[f"{bucket}/{entry.key}"] = None
    return found


def edit_index(folder: Path, change: Callable[[Index, Any], None]) -> None:
    """Change the index as no program of ours would, and let it be believed."""
    index = Index(folder / "index")
    with index.writing() as txn:
        change(index, txn)
    index.sync()
    index.close()
    (folder / "index" / "state").write_text(clean_state(Disk(), folder / "index"))


def lose_index(folder: Path) -> None:
    """From now on, only the log knows; and not its hints."""
    shutil.rmtree(folder / "index")
    for path in (folder / "log").glob("*.hint"):
        path.unlink()


def of_record(folder: Path, data: bytes, *, last: bool = False) -> tuple[Path, int]:
    """The segment and offset of some bytes: the first ones, or the last."""
    found = [
        (path, path.read_bytes().rindex(data) if last else path.read_bytes().index(data))
        for path in sorted((folder / "log").glob("*.seg"))
        if data in path.read_bytes()
    ]
    return found[-1] if last else found[0]
