"""`holdfast events`."""

import math

import click

from holdfast import wire
from holdfast.cli.output import emit, examples, note, shown, time_text
from holdfast.cli.store import Target, json_option, opened, store_options
from holdfast.core.entry import moment
from holdfast.core.errors import UnavailableError
from holdfast.core.stream import NOW, Cursor, Event, Events, parse_cursor


@click.command(
    short_help="Say what became of keys, in order.",
    epilog=examples(
        "holdfast events                            all that is kept, the oldest first",
        "holdfast events --from now --follow        what happens from now on",
        "holdfast events --json --from 17-2 | jq -r .key",
    ),
)
@store_options
@click.option(
    "--from",
    "from_",
    metavar="CURSOR",
    help="Begin behind CURSOR, as it is printed, or at `now`; else with the oldest that is kept.",
)
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with TEXT.")
@click.option("--all", "all_buckets", is_flag=True, help="Of all buckets that the key opens.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0,
    metavar="SECONDS",
    help="End when nothing came for so long; at once unless given.",
)
@json_option
@click.pass_context
def events(ctx: click.Context, /, **_: object) -> None:
    """Say what became of keys, in the order in which that was committed, each once.

    Each line begins with a cursor: whoever has dealt with it goes on with --from. What was dropped
    from history is told by exit 1; begin with a listing then.
    """
    options = ctx.params
    wait_s = math.inf if options["follow"] else options["wait_s"]
    with opened(Target(options["store"], options["bucket"])) as bucket:
        reader = bucket.events(
            _cursor(options["from_"]),
            prefix=options["prefix"],
            wait_s=wait_s,
            all_buckets=options["all_buckets"],
        )
        with reader:
            _tell(reader, as_json=options["as_json"])


def _tell(reader: Events, *, as_json: bool) -> None:
    try:
        for event in reader:
            if as_json:
                emit(wire.event_json(event))
            else:
                click.echo(_line(event))
    except UnavailableError:
        note(f"holdfast: go on with --from {reader.cursor}")
        raise


def _line(event: Event) -> str:
    when = time_text(moment(event.at_us)) if event.at_us else "-"
    name = shown(f"{event.bucket}/{event.key}")
    return f"{event.cursor!s:>12}  {when:20}  {event.kind.value:8}  {name}"


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    return NOW if text == str(NOW) else parse_cursor(text)
