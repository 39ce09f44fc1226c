"""`holdfast gc`."""

from collections.abc import Callable

import click
import msgspec

from holdfast import wire
from holdfast.cli.desk import desk_of
from holdfast.cli.output import bar, emit, examples, human_size
from holdfast.cli.store import DEFAULT_STORE, existing
from holdfast.config.stack import Located
from holdfast.config.target import bounds_of, is_server
from holdfast.core.digest import BlobRef
from holdfast.core.entry import moment
from holdfast.core.limits import SWEEP_GRACE_S

Tell = Callable[[BlobRef, int], None]


@click.command(
    short_help="Remove blobs that no name needs.",
    epilog=examples(
        "holdfast gc ./data --dry-run               list what has no name, and since when",
        "holdfast gc ./data                         remove what has had none for an hour",
        "holdfast gc ./data --grace 0               remove all of it now",
        "holdfast undelete KEY --digest sha256:9f86d0...   give one of them a name again",
    ),
)
@click.argument("store", metavar="[DIR_OR_URL]", envvar="HOLDFAST_STORE", default=DEFAULT_STORE)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=SWEEP_GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help="Keep what was stored, or found without a name, in the last SECONDS.",
)
@click.option("--dry-run", is_flag=True, help="Only list.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def gc(store: str, grace: float, dry_run: bool, as_json: bool) -> None:  # noqa: FBT001
    """Remove the blobs in a folder that neither a key nor the content face holds.

    What is found without a name is marked, and goes when it has been for the grace. Until then
    `holdfast undelete KEY --digest` names it again. The folder must not be in use: a server does
    the same from time to time, and --dry-run lists what it has found.
    """
    if is_server(store):
        if not dry_run:
            raise click.UsageError("a server collects by itself; --dry-run lists what it has found")
        _list_marked(store, as_json=as_json)
        return
    _collect(existing(store), grace, dry_run=dry_run, as_json=as_json)


def _list_marked(url: str, *, as_json: bool) -> None:
    with desk_of(url) as desk:
        for one in desk.every("blobs", "nameless"):
            _print(one, as_json=as_json)


def _print(one: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        emit(msgspec.json.encode(one))
    else:
        click.echo(f"{one['digest']}  {one['size_bytes']:>15,}  {one['since_at']}")


def _collect(located: Located, grace_s: float, *, dry_run: bool, as_json: bool) -> None:
    from holdfast.depot.local import open_depot  # noqa: PLC0415 - an engine is much to import
    from holdfast.services.marks import marks_of  # noqa: PLC0415
    from holdfast.services.sweep import Manner  # noqa: PLC0415
    from holdfast.services.sweeper import sweep_of  # noqa: PLC0415

    manner = Manner(grace_s=grace_s, dry_run=dry_run)
    if dry_run:
        manner.tell = _teller(as_json=as_json)
    with open_depot(located.folder, bounds_of(located)) as depot, bar("sweeping", None) as move:
        work = sweep_of(depot, manner, marks_of(depot.engine))
        while work.step():
            move(work.report.live)
        for _ in () if dry_run else depot.engine.sweep_uploads(grace_s):
            pass
    report = work.report
    if as_json:
        emit(msgspec.json.encode(report))
        return
    done = "would be removed" if dry_run else "removed"
    size = human_size(report.removed_bytes)
    click.echo(f"{report.removed} blobs ({size}) {done}, {report.young} young, {report.live} live")


def _teller(*, as_json: bool) -> Tell:
    def tell(ref: BlobRef, since_us: int) -> None:
        since_at = wire.format_moment(moment(since_us))
        found = {"digest": str(ref.digest), "size_bytes": ref.size_bytes, "since_at": since_at}
        _print(found, as_json=as_json)

    return tell
