"""`holdfast policy`."""

import click
import msgspec

from holdfast.cli.amounts import AMOUNT, Amount, said
from holdfast.cli.desk import any_desk_of
from holdfast.cli.output import emit, examples, human_size, print_used
from holdfast.cli.store import json_option, place_option
from holdfast.core.policy import Mismatch

KIND = "policies"
NOT_OF_THE_POLICY = frozenset(("bucket", "used"))

bucket_argument = click.argument("bucket", metavar="BUCKET")


@click.group(
    short_help="Look after buckets: what they take and keep.",
    epilog=examples(
        "holdfast policy list                       every bucket, and what it holds",
        "holdfast policy set photos --versions 5 --type 'image/*'",
        "holdfast policy set album --public",
    ),
)
def policy() -> None:
    """Look after the policies of buckets: what each takes, keeps, and shows to anybody.

    A bucket of an owner is written OWNER~BUCKET. A server is shown the key in HOLDFAST_KEY.
    """


@policy.command(
    "list",
    short_help="List buckets.",
    epilog=examples(
        "holdfast policy list",
        "holdfast policy list --json | jq 'select(.public) | .bucket'",
    ),
)
@place_option
@json_option
def list_(store: str, as_json: bool) -> None:  # noqa: FBT001
    """List every bucket that holds something or has a policy: entries, versions, size, name."""
    with any_desk_of(store) as desk:
        for one in desk.every(KIND, KIND):
            if as_json:
                emit(msgspec.json.encode(one))
                continue
            used = one["used"]
            size = human_size(used["entry_bytes"] + used["version_bytes"])
            click.echo(
                f"{used['entries']:>12,} {used['versions']:>10,} {size:>10}  {one['bucket']}"
            )


@policy.command(
    short_help="Show that of a bucket.",
    epilog=examples(
        "holdfast policy show photos",
    ),
)
@bucket_argument
@place_option
@json_option
def show(bucket: str, store: str, as_json: bool) -> None:  # noqa: FBT001
    """Show what BUCKET takes and keeps, and what it holds."""
    with any_desk_of(store) as desk:
        found = desk.ask("GET", KIND, bucket)
    print_used(found, as_json=as_json)


@policy.command(
    "set",
    short_help="Change that of a bucket.",
    epilog=examples(
        "holdfast policy set photos --quota-bytes 10GiB --type 'image/*' --mismatch reject",
        "holdfast policy set photos --type any --versions 0",
    ),
)
@bucket_argument
@click.option("--public/--private", default=None, help="Anybody may read it by its keys, or not.")
@click.option("--quota-bytes", type=AMOUNT, metavar="SIZE", help="Bytes in it, or none.")
@click.option("--quota-entries", type=AMOUNT, metavar="N", help="Entries in it, or none.")
@click.option("--blob-bytes-max", type=AMOUNT, metavar="SIZE", help="Of one blob, or none.")
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Take this content type; any for all."
)
@click.option(
    "--mismatch",
    type=click.Choice([one.value for one in Mismatch]),
    help="When the bytes are not what was declared.",
)
@click.option("--versions", type=click.IntRange(0), metavar="N", help="Replaced ones to keep.")
@click.option(
    "--undelete", "undelete_s", type=AMOUNT, metavar="SECONDS", help="To bring back; none: usual."
)
@click.option(
    "--expire", "expire_s", type=Amount(1), metavar="SECONDS", help="Until a key goes, or none."
)
@place_option
def set_(bucket: str, store: str, **changes: object) -> None:
    """Change what BUCKET takes and keeps from now on; what is not said stays."""
    changed = said(changes)
    if changed.get("types") == ("any",):
        changed["types"] = ()
    with any_desk_of(store) as desk:
        before = desk.ask("GET", KIND, bucket)
        kept = {name: value for name, value in before.items() if name not in NOT_OF_THE_POLICY}
        desk.ask("PUT", KIND, bucket, **{**kept, **changed})


@policy.command(
    short_help="Let buckets be as without one.",
    epilog=examples(
        "holdfast policy rm photos",
    ),
)
@click.argument("buckets", metavar="BUCKET...", nargs=-1, required=True)
@place_option
def rm(buckets: tuple[str, ...], store: str) -> None:
    """Let BUCKETs take and keep what they do without a policy; what is stored stays."""
    with any_desk_of(store) as desk:
        for bucket in buckets:
            desk.ask("DELETE", KIND, bucket)
