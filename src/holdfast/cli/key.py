"""`holdfast key`."""

from datetime import UTC, datetime, timedelta

import click
import msgspec

from holdfast import wire
from holdfast.cli.desk import any_desk_of
from holdfast.cli.output import emit, examples, note, print_members
from holdfast.cli.store import json_option, place_option
from holdfast.core.access import Scope
from holdfast.core.entry import moment
from holdfast.core.seams import SystemClock

KIND = "keys"

id_argument = click.argument("key_id", metavar="ID")


@click.group(
    short_help="Look after API keys.",
    epilog=examples(
        "export HOLDFAST_KEY=$(holdfast key add alice)",
        "holdfast key list --owner alice",
        "holdfast key rotate 0123456789ab",
    ),
)
def key() -> None:
    """Look after API keys: what opens the buckets of owners.

    A server is shown the key in HOLDFAST_KEY.
    """


@key.command(
    short_help="Make one; prints it.",
    epilog=examples(
        "holdfast key add alice",
        "holdfast key add alice --scope read --bucket photos --expires-in 86400",
        "holdfast key add --label backup            for who runs the store",
    ),
)
@click.argument("owner", default="", metavar="[OWNER]")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    help="What it may do, again and again; all unless given.",
)
@click.option("-b", "--bucket", "buckets", multiple=True, metavar="NAME", help="Only this bucket.")
@click.option("--network", "networks", multiple=True, metavar="CIDR", help="Only from there.")
@click.option("--label", default="", metavar="TEXT", help="What it is for.")
@click.option("--expires-in", type=click.IntRange(1), metavar="SECONDS", help="When it ends.")
@place_option
@json_option
@click.pass_context
def add(ctx: click.Context, /, owner: str, store: str, **_: object) -> None:
    """Make an API key of OWNER, or of who runs the store, and print it: it is never shown again."""
    options = ctx.params
    wanted: dict[str, object] = {
        name: options[name] for name in ("scopes", "buckets", "networks", "label") if options[name]
    }
    if owner:
        wanted["owner"] = owner
    if options["expires_in"] is not None:
        wanted["expires_at"] = _after(options["expires_in"])
    _make(store, wanted, as_json=options["as_json"])


@key.command(
    short_help="Make one that shares what another may; prints it.",
    epilog=examples(
        "holdfast key alias 0123456789ab --label phone",
    ),
)
@id_argument
@click.option("--label", default="", metavar="TEXT", help="What it is for.")
@place_option
@json_option
def alias(key_id: str, label: str, store: str, as_json: bool) -> None:  # noqa: FBT001
    """Make a key that may what the key ID may, while that one lives; each is revoked by itself."""
    _make(store, {"alias_of": key_id, "label": label}, as_json=as_json)


def _make(store: str, wanted: dict[str, object], *, as_json: bool) -> None:
    with any_desk_of(store) as desk:
        made = desk.ask("POST", KIND, **wanted)
    if as_json:
        emit(msgspec.json.encode(made))
    else:
        click.echo(made["key"])
        note(f"holdfast: the key {made['id']} is shown only now")


def _after(seconds: int) -> str:
    now: datetime = moment(SystemClock().now_us()).astimezone(UTC)
    return wire.format_moment(now + timedelta(seconds=seconds))


@key.command(
    "list",
    short_help="List them.",
    epilog=examples(
        "holdfast key list",
        "holdfast key list --owner alice --json | jq -r .id",
    ),
)
@click.option("--owner", metavar="NAME", help="Only those of this owner.")
@place_option
@json_option
def list_(owner: str | None, store: str, as_json: bool) -> None:  # noqa: FBT001
    """List API keys, without their secrets: id, owner, scopes and label."""
    with any_desk_of(store) as desk:
        for one in desk.every(KIND, KIND):
            if owner not in (None, one["owner"]):
                continue
            if as_json:
                emit(msgspec.json.encode(one))
            else:
                scopes = ",".join(one["scopes"])
                click.echo(
                    f"{one['id']}  {one['owner'] or '-':20}  {scopes}  {one['label']}".rstrip()
                )


@key.command(
    short_help="Describe one.",
    epilog=examples(
        "holdfast key show 0123456789ab",
    ),
)
@id_argument
@place_option
@json_option
def show(key_id: str, store: str, as_json: bool) -> None:  # noqa: FBT001
    """Describe the API key ID, without its secret."""
    with any_desk_of(store) as desk:
        found = desk.ask("GET", KIND, key_id)
    if as_json:
        emit(msgspec.json.encode(found))
    else:
        print_members(found)


@key.command(
    short_help="Give one a new secret; prints it.",
    epilog=examples(
        "holdfast key rotate 0123456789ab",
    ),
)
@id_argument
@place_option
@json_option
def rotate(key_id: str, store: str, as_json: bool) -> None:  # noqa: FBT001
    """Give the API key ID a new secret and print it; the old one opens nothing from now on."""
    with any_desk_of(store) as desk:
        made = desk.ask("POST", KIND, key_id, "rotate")
    if as_json:
        emit(msgspec.json.encode(made))
    else:
        click.echo(made["key"])


@key.command(
    short_help="Let some open nothing from now on.",
    epilog=examples(
        "holdfast key revoke 0123456789ab",
    ),
)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@place_option
def revoke(ids: tuple[str, ...], store: str) -> None:
    """Let API keys, and their aliases, open nothing from now on; a missing one is no error."""
    with any_desk_of(store) as desk:
        for key_id in ids:
            desk.ask("DELETE", KIND, key_id)
