"""`holdfast owner`."""

import sys
from typing import Any

import click
import msgspec

from holdfast.cli.amounts import AMOUNT, said
from holdfast.cli.desk import Desk, any_desk_of
from holdfast.cli.output import emit, examples, human_size, note, print_used
from holdfast.cli.store import json_option, place_option
from holdfast.core.errors import NotFoundError, PreconditionError

KIND = "owners"
MEMBERS = (
    *("quota_bytes", "quota_entries", "is_suspended"),
    *("requests_s", "bytes_s", "burst_s"),
)

name_argument = click.argument("name", metavar="NAME")


@click.group(
    short_help="Look after who may store how much.",
    epilog=examples(
        "holdfast owner add alice --quota-bytes 10GiB",
        "holdfast key add alice                     a key for her",
        "holdfast owner rm alice --dry-run          what would go",
    ),
)
def owner() -> None:
    """Look after owners: who has buckets, and how much may be in them.

    A server is shown the key in HOLDFAST_KEY.
    """


def limits_options(command: Any) -> Any:  # noqa: ANN401 - as click's decorators
    """Add the limits of an owner."""
    for option in (
        click.option("--burst", "burst_s", type=float, metavar="SECONDS", help="At once, of both."),
        click.option("--bytes-s", type=AMOUNT, metavar="SIZE", help="Bytes in a second."),
        click.option("--requests-s", type=float, metavar="N", help="Requests in a second."),
        click.option(
            "--quota-entries", type=AMOUNT, metavar="N", help="Entries in all buckets, or none."
        ),
        click.option(
            "--quota-bytes", type=AMOUNT, metavar="SIZE", help="Bytes in all buckets, or none."
        ),
    ):
        command = option(command)
    return command


@owner.command(
    short_help="Make one.",
    epilog=examples(
        "holdfast owner add alice",
        "holdfast owner add bob --quota-bytes 10GiB --quota-entries 100000",
    ),
)
@name_argument
@limits_options
@place_option
@json_option
def add(name: str, store: str, as_json: bool, **limits: object) -> None:  # noqa: FBT001
    """Make the owner NAME; one that is there already is exit 4."""
    with any_desk_of(store) as desk:
        if _find(desk, name) is not None:
            raise PreconditionError(f"there is an owner {name!r} already; see: owner set")
        made = desk.ask("PUT", KIND, name, **said(limits))
    if as_json:
        emit(msgspec.json.encode(made))


@owner.command(
    "list",
    short_help="List them.",
    epilog=examples(
        "holdfast owner list",
    ),
)
@place_option
@json_option
def list_(store: str, as_json: bool) -> None:  # noqa: FBT001
    """List owners by their names."""
    with any_desk_of(store) as desk:
        for one in desk.every(KIND, KIND):
            if as_json:
                emit(msgspec.json.encode(one))
            else:
                click.echo(one["name"] + ("  suspended" if one["is_suspended"] else ""))


@owner.command(
    short_help="Describe one.",
    epilog=examples(
        "holdfast owner show alice",
    ),
)
@name_argument
@place_option
@json_option
def show(name: str, store: str, as_json: bool) -> None:  # noqa: FBT001
    """Describe the owner NAME, and how much is stored."""
    with any_desk_of(store) as desk:
        found = desk.ask("GET", KIND, name)
    print_used(found, as_json=as_json)


@owner.command(
    "set",
    short_help="Change one.",
    epilog=examples(
        "holdfast owner set alice --quota-bytes 20GiB",
        "holdfast owner set alice --quota-bytes none",
        "holdfast owner set alice --suspended       its keys open nothing for now",
    ),
)
@name_argument
@limits_options
@click.option(
    "--suspended/--resumed", "is_suspended", default=None, help="Let no key open anything, or do."
)
@place_option
def set_(name: str, store: str, **changes: object) -> None:
    """Change the owner NAME; what is not said stays. What is stored stays in any case."""
    with any_desk_of(store) as desk:
        before = desk.ask("GET", KIND, name)
        kept = {member: before[member] for member in MEMBERS}
        desk.ask("PUT", KIND, name, **{**kept, **said(changes)})


@owner.command(
    short_help="Remove one, with all that is stored.",
    epilog=examples(
        "holdfast owner rm alice --dry-run          what would go",
        "holdfast owner rm alice",
        "holdfast owner rm alice --yes              without a question, for scripts",
    ),
)
@name_argument
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@place_option
@json_option
def rm(name: str, store: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove the owner NAME, with all keys and everything that is stored, for good.

    Counts what goes, and asks. From then on no key opens anything; a server removes what was stored
    in the background. An owner that is not there is no error.
    """
    with any_desk_of(store) as desk:
        found = _find(desk, name)
        if found is None:
            note(f"holdfast: there is no owner {name!r}")
            return
        counted = _count(desk, found)
        if as_json:
            emit(msgspec.json.encode(counted))
        else:
            click.echo(_sentence(counted, dry_run=dry_run))
        if dry_run:
            return
        if not yes:
            _confirm(name)
        desk.ask("DELETE", KIND, name)
        desk.settle()


def _find(desk: Desk, name: str) -> dict[str, Any] | None:
    try:
        return desk.ask("GET", KIND, name)
    except NotFoundError:
        return None


def _count(desk: Desk, found: dict[str, Any]) -> dict[str, object]:
    """What goes with an owner."""
    name = found["name"]
    keys = sum(one["owner"] == name for one in desk.every("keys", "keys"))
    return {"owner": name, **found["used"], "keys": keys}


def _sentence(counted: dict[str, Any], *, dry_run: bool) -> str:
    size = human_size(counted["entry_bytes"] + counted["version_bytes"])
    what = f"{counted['entries']:,} entries and {counted['versions']:,} versions ({size})"
    verb = "would be removed" if dry_run else "to be removed"
    return f"{verb} with {counted['owner']}: {what}, deleted names, and {counted['keys']:,} keys"


def _confirm(name: str) -> None:
    """Ask somebody who is there.

    Raises:
        UsageError: nobody is.
        Abort: they do not want it.
    """
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is here to be asked: add --yes")
    click.confirm(f"Remove {name} and all of that for good?", abort=True, err=True)
