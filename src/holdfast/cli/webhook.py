"""`holdfast webhook`."""

from typing import Any

import click
import msgspec

from holdfast.cli.desk import desk_of, server_option
from holdfast.cli.output import emit, examples, print_members, shown
from holdfast.cli.store import json_option
from holdfast.core.errors import NotFoundError, PreconditionError

NOT_DELIVERED = 1  # exit code of a test
KIND = "webhooks"
MEMBERS = ("url", "bucket", "prefix", "topics", "is_paused")

name_argument = click.argument("name", metavar="NAME")


@click.group(
    short_help="Tell other programs of events.",
    epilog=examples(
        "holdfast webhook add orders https://example.org/hook -b orders",
        "holdfast webhook test orders               see whether a message arrives",
        "holdfast webhook show orders               see how it is",
    ),
)
def webhook() -> None:
    """Let a server tell other programs of events, by signed messages over HTTP.

    The server is that of --store; it is shown the key in HOLDFAST_KEY.
    """


@webhook.command(
    short_help="Make one; prints its secret.",
    epilog=examples(
        "holdfast webhook add all https://example.org/hook",
        "holdfast webhook add orders https://example.org/hook -b orders --topic uploaded",
    ),
)
@name_argument
@click.argument("url", metavar="URL")
@click.option("-b", "--bucket", metavar="NAME", default="", help="Only names of this bucket.")
@click.option("--prefix", metavar="TEXT", default="", help="Only keys that begin with TEXT.")
@click.option(
    "--topic", "topics", metavar="TOPIC", multiple=True, help="Only uploaded, deleted or purged."
)
@server_option
@json_option
def add(name: str, store: str, as_json: bool, **members: object) -> None:  # noqa: FBT001
    """Make the webhook NAME, which is told of events to come at URL.

    Prints the secret that signs its messages: it is never shown again.
    """
    with desk_of(store) as desk:
        try:
            desk.ask("GET", KIND, name)
        except NotFoundError:
            made = desk.ask("PUT", KIND, name, **members)
        else:
            raise PreconditionError(f"there is a webhook {name!r} already; see: webhook set")
    if as_json:
        emit(msgspec.json.encode(made))
    else:
        click.echo(f"the secret of {made['name']}, shown only now: {made['secret']}")


@webhook.command(
    "list",
    short_help="List them.",
    epilog=examples(
        "holdfast webhook list",
        "holdfast webhook list --json | jq -r .state",
    ),
)
@server_option
@json_option
def list_(store: str, as_json: bool) -> None:  # noqa: FBT001
    """List webhooks: how each is, how many messages were delivered and given up, name and URL."""
    with desk_of(store) as desk:
        for one in desk.every(KIND, KIND):
            if as_json:
                emit(msgspec.json.encode(one))
            else:
                counts = f"{one['delivered']:>9,} {one['given_up']:>7,}"
                click.echo(f"{one['state']:8} {counts}  {one['name']}  {shown(one['url'])}")


@webhook.command(
    short_help="Describe one.",
    epilog=examples(
        "holdfast webhook show orders",
    ),
)
@name_argument
@server_option
@json_option
def show(name: str, store: str, as_json: bool) -> None:  # noqa: FBT001
    """Describe the webhook NAME, and say where it stands."""
    with desk_of(store) as desk:
        found = desk.ask("GET", KIND, name)
    if as_json:
        emit(msgspec.json.encode(found))
    else:
        print_members(found)


@webhook.command(
    "set",
    short_help="Change one.",
    epilog=examples(
        "holdfast webhook set orders --url https://example.org/new",
        "holdfast webhook set orders --paused",
    ),
)
@name_argument
@click.option("--url", metavar="URL", help="Where it is told.")
@click.option("-b", "--bucket", metavar="NAME", help="Only names of this bucket; '' for all.")
@click.option("--prefix", metavar="TEXT", help="Only keys that begin with TEXT.")
@click.option(
    "--topic", "topics", metavar="TOPIC", multiple=True, help="Only these topics; '' for all."
)
@click.option("--paused/--resumed", "is_paused", default=None, help="Send nothing, or go on.")
@server_option
def set_(name: str, store: str, **changes: Any) -> None:  # noqa: ANN401 - click's values
    """Change the webhook NAME; what is not said stays, and so does its place among the events.

    Without any change, a receiver that said that it is gone is tried again.
    """
    changed = {member: value for member, value in changes.items() if value not in (None, ())}
    if "topics" in changed:
        changed["topics"] = [topic for topic in changed["topics"] if topic]
    with desk_of(store) as desk:
        before = desk.ask("GET", KIND, name)
        kept = {member: before[member] for member in MEMBERS}
        desk.ask("PUT", KIND, name, **{**kept, **changed})


@webhook.command(
    short_help="Remove some.",
    epilog=examples(
        "holdfast webhook rm orders",
    ),
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@server_option
def rm(names: tuple[str, ...], store: str) -> None:
    """Remove webhooks, with their dead letters; one that is not there is no error."""
    with desk_of(store) as desk:
        for name in names:
            desk.ask("DELETE", KIND, name)


@webhook.command(
    short_help="Give one a new secret.",
    epilog=examples(
        "holdfast webhook rotate orders",
        "holdfast webhook rotate orders --overlap 0     the old one signs no more",
    ),
)
@name_argument
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    default=86_400,
    show_default=True,
    metavar="SECONDS",
    help="For how long the old secret signs too.",
)
@server_option
def rotate(name: str, overlap: int, store: str) -> None:
    """Give the webhook NAME a new secret, and print it: it is never shown again."""
    with desk_of(store) as desk:
        made = desk.ask("POST", KIND, name, "rotate", overlap_s=overlap)
    click.echo(f"the new secret of {made['name']}, shown only now: {made['secret']}")


@webhook.command(
    short_help="Send a message that tells of nothing.",
    epilog=examples(
        "holdfast webhook test orders",
    ),
)
@name_argument
@server_option
@json_option
@click.pass_context
def test(ctx: click.Context, /, name: str, store: str, as_json: bool) -> None:  # noqa: FBT001
    """Send the receiver of NAME a message of the type `ping`, and say what it answered.

    Ends with 1 if it was not taken.
    """
    with desk_of(store) as desk:
        said = desk.ask("POST", KIND, name, "test")
    if as_json:
        emit(msgspec.json.encode(said))
    else:
        click.echo("delivered" if said["delivered"] else f"not delivered: {said['error']}")
    if not said["delivered"]:
        ctx.exit(NOT_DELIVERED)


@webhook.command(
    short_help="List messages that were given up.",
    epilog=examples(
        "holdfast webhook dead orders",
    ),
)
@name_argument
@server_option
@json_option
def dead(name: str, store: str, as_json: bool) -> None:  # noqa: FBT001
    """List the dead letters of the webhook NAME, oldest first: when, id, topic and why."""
    with desk_of(store) as desk:
        for one in desk.every("dead", KIND, name, "dead"):
            if as_json:
                emit(msgspec.json.encode(one))
            else:
                click.echo(f"{one['created_at']}  {one['id']}  {one['topic']}  {one['error']}")


@webhook.command(
    short_help="Send such messages again.",
    epilog=examples(
        "holdfast webhook redeliver orders",
    ),
)
@name_argument
@click.argument("ids", metavar="[ID...]", nargs=-1)
@server_option
def redeliver(name: str, ids: tuple[str, ...], store: str) -> None:
    """Send the dead letters of the webhook NAME again, each once: all, or those with these IDs."""
    members: dict[str, object] = {"ids": list(ids)} if ids else {}
    with desk_of(store) as desk:
        count = desk.ask("POST", KIND, name, "redeliver", **members)["asked"]
    click.echo(f"{count} to be sent again")
