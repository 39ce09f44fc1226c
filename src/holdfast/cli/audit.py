"""`holdfast audit`."""

import click
import msgspec

from holdfast.cli.desk import any_desk_of
from holdfast.cli.output import emit, examples, shown
from holdfast.cli.store import json_option, place_option


@click.command(
    short_help="Say what admins did.",
    epilog=examples(
        "holdfast audit                             newest first",
        "holdfast audit --json | jq 'select(.outcome != \"done\")'",
    ),
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many lines.")
@place_option
@json_option
def audit(limit: int | None, store: str, as_json: bool) -> None:  # noqa: FBT001
    """Say what admins did and were refused, newest first: when, by which key, from where, what."""
    with any_desk_of(store) as desk:
        for number, deed in enumerate(desk.every("deeds", "audit")):
            if number == limit:
                return
            if as_json:
                emit(msgspec.json.encode(deed))
                continue
            about = " ".join(f"{name}={value}" for name, value in deed["about"].items())
            who = f"{deed['key'] or '-':12}  {deed['address']:15}"
            line = f"{deed['asked_at']}  {who}  {deed['outcome']:15}  {deed['action']} {about}"
            click.echo(shown(line.rstrip()))
