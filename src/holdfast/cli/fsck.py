"""`holdfast fsck`."""

import click
import msgspec

from holdfast.cli.output import bar, emit, examples, human_size, shown
from holdfast.cli.store import existing
from holdfast.config.stack import Located
from holdfast.config.target import bounds_of
from holdfast.core.inspection import Finding
from holdfast.depot.local import open_depot
from holdfast.services.fsck import Action, Fsck, Options

DAMAGED = 5  # as the exit code of CorruptError


@click.command(
    short_help="Check, and mend, every stored byte of a folder.",
    epilog=examples(
        "holdfast fsck ./data                       read and check everything",
        "holdfast fsck ./data --repair              mend what can be mended",
        "holdfast fsck ./data --json                for scripts",
    ),
)
@click.argument("store", metavar="DIR_OR_URL")
@click.option("--repair", is_flag=True, help="Mend what can be mended without guessing.")
@click.option(
    "--forget-missing",
    "forget",
    is_flag=True,
    help="With --repair: remove names whose bytes are gone, or that cannot be read.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_context
def fsck(ctx: click.Context, /, **_: object) -> None:
    """Read a whole store and compare it with its checksums; without --repair, no more.

    The log, every blob against its SHA-256, the index against the log, and every name against its
    blob. The folder must not be in use. Exit 0 when all is well, 5 when something is (still)
    damaged.
    """
    located = existing(ctx.params["store"])
    options = Options(ctx.params["repair"], ctx.params["forget"])
    if options.forget and not options.repair:
        raise click.UsageError("--forget-missing needs --repair")
    check, actions = _run(located, options, quiet=ctx.params["as_json"])
    if ctx.params["as_json"]:
        emit(msgspec.json.encode(_document(check, actions)))
    else:
        _print(check, actions)
    if check.report.found:
        ctx.exit(DAMAGED)


def _run(located: Located, options: Options, *, quiet: bool) -> tuple[Fsck, list[Action]]:
    actions = []
    with bar("checking", None) as move:
        folder, bounds = located.folder, bounds_of(located)
        check = Fsck(
            folder,
            lambda: open_depot(folder, bounds, watch=lambda at: move(at.done_bytes)),
            options,
        )
        for action in check.run():
            move(check.report.read_bytes)
            if action is not None:
                actions.append(action)
                if not quiet:
                    click.echo(f"{action.what}  {shown(action.where)}")
    return check, actions


def _document(check: Fsck, actions: list[Action]) -> dict[str, object]:
    report = check.report
    return {
        "read_bytes": report.read_bytes,
        "blobs": report.blobs,
        "references": report.references,
        "found": report.found,
        "findings": [_finding(each) for each in report.findings],
        "leftovers": [_finding(each) for each in report.leftovers],
        "actions": actions,
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"kind": finding.kind, "where": finding.where, "why": finding.why}


def _print(check: Fsck, actions: list[Action]) -> None:
    report = check.report
    for one in (*report.findings, *report.leftovers):
        click.echo(f"{one.kind}  {shown(one.where)}  {one.why}")
    size = human_size(report.read_bytes)
    verdict = f"{report.found} damaged" if report.found else "all is well"
    mended = f", {len(actions)} mended" if actions else ""
    click.echo(
        f"{report.blobs} blobs, {report.references} references, {size} read: {verdict}{mended}"
    )
