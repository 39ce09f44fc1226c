"""The group of commands, and how errors leave the program."""

import importlib
import logging
import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

import click

from holdfast.cli.exits import BROKEN_PIPE, INTERRUPTED, OTHER, exit_code
from holdfast.cli.output import EventNotes, examples
from holdfast.core.errors import BlobError

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "serve": "serve",
        "put": "put",
        "get": "get",
        "cat": "get",
        "ls": "listing",
        "stat": "listing",
        "stats": "listing",
        "rm": "change",
        "cp": "change",
        "mv": "change",
        "presign": "presign",
        "deleted": "kept",
        "undelete": "kept",
        "versions": "kept",
        "restore": "kept",
        "events": "events",
        "owner": "owner",
        "key": "key",
        "policy": "policy",
        "compact": "compact",
        "tier": "tier",
        "reshard": "reshard",
        "fsck": "fsck",
        "gc": "gc",
        "migrate": "migrate",
        "keyring": "keyring",
        "dictionary": "dictionary",
        "import": "adopt",
        "webhook": "webhook",
        "audit": "audit",
        "hash": "hash",
        "config": "config",
        "completion": "completion",
    }
)
"""Commands in the order of the help, and the module of each, imported when it is needed."""


class Commands(click.Group):
    """Loads a command when it is called, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in their order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"holdfast.cli.{COMMANDS[cmd_name]}")
        command = getattr(module, "adopt" if cmd_name == "import" else cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; a reader of stdout that goes away ends it quietly."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        return result


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "holdfast serve --data ./data               start a server",
        "holdfast put photo.jpg                     store a file under its own name",
        "holdfast get photo.jpg copy.jpg            fetch it",
        "holdfast ls                                see what is there",
    ),
)
@click.version_option(package_name="holdfast")
def cli() -> None:
    """Keep blobs: bytes with a name, in a folder or on a server.

    The store is http://127.0.0.1:3000 unless --store or HOLDFAST_STORE names another URL
    or a folder.
    """


def main() -> None:
    """Run the command line and exit with the code of docs/cli.md."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and say with which code the process ends."""
    logging.basicConfig(level=logging.WARNING, handlers=[EventNotes()])  # `serve` has its own
    try:
        code = cli.main(arguments, prog_name="holdfast", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except BlobError as error:
        _complain(error, arguments)
        return exit_code(error)
    except OSError as error:
        click.echo(f"holdfast: {error}", err=True)
        return OTHER
    return code if isinstance(code, int) else 0


def _complain(error: BlobError, arguments: list[str]) -> None:
    if "--json" in arguments:
        from holdfast import wire  # noqa: PLC0415 - only here

        click.echo(wire.error_json(error), err=True)
    else:
        place = [str(error.facts[name]) for name in ("bucket", "key") if name in error.facts]
        click.echo(
            ": ".join(["holdfast", *filter(None, ["/".join(place)]), error.message]), err=True
        )
