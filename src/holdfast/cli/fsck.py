"""`holdfast fsck`."""

from pathlib import Path

import click
import msgspec

from holdfast.cli.output import bar, emit, examples, human_size, shown
from holdfast.core.errors import NotFoundError
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.services.check import Check, Report

DAMAGED = 5  # as the exit code of CorruptError


@click.command(
    short_help="Check every stored byte of a folder.",
    epilog=examples(
        "holdfast fsck ./data                       read and check everything",
        "holdfast fsck ./data --json                for scripts",
    ),
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_context
def fsck(ctx: click.Context, folder: Path, as_json: bool) -> None:  # noqa: FBT001
    """Read the whole store in DIR and compare it with its checksums; nothing is changed.

    The log, every blob against its SHA-256, and every entry against its blob. The folder must not
    be in use. Exit 0 when all is well, 5 when something is damaged.
    """
    if not (folder / "HOLDFAST").exists():
        raise NotFoundError(f"there is no store at {folder}")
    with open_depot(folder) as depot:
        report = _run(depot)
    if as_json:
        emit(msgspec.json.encode(report))
    else:
        _print(report)
    if report.found:
        ctx.exit(DAMAGED)


def _run(depot: Depot) -> Report:
    check = Check(depot.engine)
    with bar("checking", None) as move:
        while check.step():
            move(check.report.read_bytes)
    return check.report


def _print(report: Report) -> None:
    for one in report.findings:
        click.echo(f"{one.kind}  {shown(one.where)}  {one.why}")
    size = human_size(report.read_bytes)
    verdict = f"{report.found} damaged" if report.found else "all is well"
    click.echo(f"{report.blobs} blobs, {report.references} references, {size} read: {verdict}")
