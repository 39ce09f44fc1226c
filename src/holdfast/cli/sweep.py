"""`holdfast sweep`."""

from pathlib import Path

import click
import msgspec

from holdfast.cli.output import bar, emit, examples, human_size
from holdfast.core.errors import NotFoundError
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.services.sweep import Manner, Report
from holdfast.services.sweeper import sweep_of


@click.command(
    short_help="Remove blobs that no name needs from a folder.",
    epilog=examples(
        "holdfast sweep ./data --dry-run            what would be removed",
        "holdfast sweep ./data                      remove what is older than ten minutes",
        "holdfast sweep ./data --grace 0            remove all",
    ),
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Keep what was stored in the last SECONDS.",
)
@click.option("--dry-run", is_flag=True, help="Only report.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def sweep(folder: Path, grace: float, dry_run: bool, as_json: bool) -> None:  # noqa: FBT001
    """Remove the blobs in DIR that neither a key nor the content face holds.

    A server does the same from time to time. The folder must not be in use. A large blob frees its
    space at once; in the log it becomes dead bytes.
    """
    if not (folder / "HOLDFAST").exists():
        raise NotFoundError(f"there is no store at {folder}")
    with open_depot(folder) as depot:
        report = _run(depot, Manner(grace_s=grace, dry_run=dry_run))
    if as_json:
        emit(msgspec.json.encode(report))
        return
    done = "would be removed" if dry_run else "removed"
    size = human_size(report.removed_bytes)
    click.echo(f"{report.removed} blobs ({size}) {done}, {report.young} young, {report.live} live")


def _run(depot: Depot, manner: Manner) -> Report:
    work = sweep_of(depot, manner)
    with bar("sweeping", None) as move:
        while work.step():
            move(work.report.live)
    return work.report
