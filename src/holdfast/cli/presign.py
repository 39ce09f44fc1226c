"""`holdfast presign get` and `holdfast presign put`."""

import re

import click

from holdfast.cli.output import examples
from holdfast.cli.store import Name, Target, opened, parse_name, store_options
from holdfast.config.kinds import parse_size
from holdfast.config.target import is_server
from holdfast.core.digest import Digest
from holdfast.core.errors import InvalidError
from holdfast.core.limits import PRESIGN_S
from holdfast.core.urls import shown_url
from holdfast.wire import Presigned

TIME = re.compile(r"([0-9]{1,9})([smhd]?)")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _seconds(text: str) -> int:
    match = TIME.fullmatch(text)
    if match is None:
        raise click.BadParameter("write 90s, 15m, 1h or 7d")
    return int(match[1]) * SECONDS[match[2]]


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError:
        raise click.BadParameter('write a size such as 1048576 or "10 MiB"') from None


expires_option = click.option(
    "--expires",
    "expires_s",
    type=_seconds,
    default=str(PRESIGN_S),
    metavar="TIME",
    help="How long it is good: 90s, 15m, 1h or 7d, which is the most. [1h]",
)


@click.group(short_help="Sign a URL for somebody who has no key.")
def presign() -> None:
    """Sign a URL by which anybody may fetch or store one blob for a while.

    No server is asked: the URL is signed with the API key in HOLDFAST_KEY, opens what that key
    opens, and nothing any more once the key is revoked or rotated.
    """


@presign.command(
    short_help="Sign a URL for fetching a blob.",
    epilog=examples(
        "holdfast presign get 2026/holiday.jpg --expires 1d",
        "curl -O $(holdfast presign get notes.txt)",
    ),
)
@click.argument("name", type=parse_name, metavar="KEY")
@store_options
@expires_option
@click.option("--inline", is_flag=True, help="Let browsers show it instead of keeping it.")
def get(name: Name, store: str, bucket: str, expires_s: int, *, inline: bool) -> None:
    """Print a URL by which anybody may fetch KEY."""
    _print(name, Target(store, bucket), Presigned(expires_s=expires_s, inline=inline))


@presign.command(
    short_help="Sign a URL for storing a blob.",
    epilog=examples(
        "holdfast presign put inbox/cv.pdf --max-bytes 10MB -t application/pdf --create-only",
        "curl -T cv.pdf $(holdfast presign put inbox/cv.pdf --expires 10m)",
    ),
)
@click.argument("name", type=parse_name, metavar="KEY")
@store_options
@expires_option
@click.option("--max-bytes", "bytes_max", type=_size, metavar="SIZE", help="Refuse larger blobs.")
@click.option("-t", "--content-type", metavar="TEXT", help="Refuse other content types.")
@click.option("--digest", metavar="SHA256", help="Refuse other bytes than these.")
@click.option("-n", "--create-only", is_flag=True, help="Only while there is no KEY: stores once.")
@click.pass_context
def put(ctx: click.Context, /, **_: object) -> None:
    """Print a URL by which anybody may store KEY."""
    options = ctx.params
    digest = options["digest"]
    wanted = Presigned(
        "PUT",
        options["expires_s"],
        options["bytes_max"],
        options["content_type"],
        None if digest is None else Digest.parse(digest),
        create_only=options["create_only"],
    )
    _print(options["name"], Target(options["store"], options["bucket"]), wanted)


def _print(name: Name, target: Target, wanted: Presigned) -> None:
    if not is_server(target.store):
        raise InvalidError(
            "store", shown_url(target.store), "the URL of a server; folders have none"
        )
    from holdfast.client import Client  # noqa: PLC0415 - httpx is slow to load

    with opened(target) as bucket:
        assert isinstance(bucket, Client)
        if name.digest is None:
            click.echo(bucket.presign(name.key, wanted))
        else:
            click.echo(bucket.content.presign(name.digest, wanted))
