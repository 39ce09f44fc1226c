"""`holdfast completion`."""

import click
from click.shell_completion import get_completion_class

from holdfast.cli.output import examples


@click.command(
    short_help="Print a script for shell completion.",
    epilog=examples(
        'eval "$(holdfast completion bash)"              in ~/.bashrc',
        'eval "$(holdfast completion zsh)"               in ~/.zshrc',
        "holdfast completion fish > ~/.config/fish/completions/holdfast.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that teaches SHELL the commands and options."""
    kind = get_completion_class(shell)
    assert kind is not None
    group = ctx.find_root().command
    click.echo(kind(group, {}, "holdfast", "_HOLDFAST_COMPLETE").source())
