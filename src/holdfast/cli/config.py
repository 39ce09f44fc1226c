"""`holdfast config show`, `holdfast config check` and `holdfast config explain`."""

import json
from dataclasses import fields
from pathlib import Path

import click

from holdfast.cli.output import examples
from holdfast.cli.store import json_option
from holdfast.config.explain import explain as draw
from holdfast.config.load import Loaded, load
from holdfast.config.settings import RULES, Settings
from holdfast.config.sharding import sharding_of
from holdfast.config.stack import Located, locate, wanted_of
from holdfast.config.target import bounds_of

file_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar="HOLDFAST_CONFIG",
    metavar="FILE",
    help="TOML file with settings.",
)


@click.group(short_help="Show or check settings.")
def config() -> None:
    """Show or check the settings that `holdfast serve` would use."""


@config.command(
    short_help="Show all settings and where they come from.",
    epilog=examples(
        "holdfast config show",
        "holdfast config show --about > holdfast.toml    a file to begin with",
        "HOLDFAST_PORT=8080 holdfast config show --json",
    ),
)
@file_option
@click.option("--about", is_flag=True, help="Say what each is for and what it allows.")
@json_option
def show(file: Path | None, about: bool, as_json: bool) -> None:  # noqa: FBT001
    """Show all settings as a TOML file, with where each comes from."""
    loaded = load(file)
    if as_json:
        click.echo(json.dumps({name: _plain(value) for name, value in _items(loaded)}))
        return
    for name, value in _items(loaded):
        if about:
            click.echo(f"\n# {RULES[name].about}\n# Allowed: {RULES[name].kind.allowed}.")
        line = f"# {name} =" if value is None else f"{name} = {_toml(value)}"
        click.echo(f"{line}  # {loaded.origins[name]}")


@config.command(
    short_help="Check settings; exit 2 when they are wrong.",
    epilog=examples(
        "holdfast config check --config holdfast.toml && systemctl restart holdfast",
    ),
)
@file_option
def check(file: Path | None) -> None:
    """Check all settings and the data folder as `holdfast serve` would, without serving.

    Keys are read, and held to the store that is there; the store itself is not opened.
    """
    loaded = load(file)
    loaded.check_folders()
    _check_store(loaded.settings)
    click.echo("ok")


@config.command(
    short_help="Draw what is around the bytes of a store.",
    epilog=examples(
        "holdfast config explain --config holdfast.toml",
        "holdfast config explain 'segments:///srv/blobs?compress=zstd&encrypt=env:KEY'",
    ),
)
@click.argument("store", metavar="[DIR_OR_URL]", default="")
@file_option
def explain(store: str, file: Path | None) -> None:
    """Draw the wrappers and places of a store, from the outside to the disk.

    Of the store in DIR_OR_URL, or of the one that `holdfast serve` would serve. Nothing is opened.
    """
    settings = load(file).settings
    found = locate(store) if store else _served(settings)
    _check_engine(found)
    for line in draw(found, settings.small_blob_bytes_max):
        click.echo(line)


def _check_engine(located: Located) -> None:
    """See that the store in a folder, if there is one, is of the engine that is asked for.

    Raises:
        BlobError: it is not, or it was moved or is not finished.
    """
    from holdfast.depot.engine import Limits  # noqa: PLC0415 - other commands need no engine
    from holdfast.depot.local import engine_of  # noqa: PLC0415

    sharding = located.sharding
    bounds = Limits(engine=sharding.engine, shards=sharding.shards, is_moving=True)
    engine_of(located.folder, bounds)


def _check_store(settings: Settings) -> None:
    """See that the store can be opened so, as far as that shows from outside.

    Raises:
        BlobError: it cannot.
    """
    from holdfast.depot import moving  # noqa: PLC0415 - other commands need no engine
    from holdfast.depot.local import engine_of  # noqa: PLC0415
    from holdfast.depot.wrapped import check_master  # noqa: PLC0415

    located = _served(settings)
    bounds = bounds_of(located)
    if settings.move_to:
        new = locate(settings.move_to, {})
        bounds_of(new)
        moving.find(located.folder, new.folder)
        bounds = bounds._replace(is_moving=True)
    engine_of(located.folder, bounds)
    check_master(located.folder, bounds.stack.master)


def _served(settings: Settings) -> Located:
    return Located(settings.data, wanted_of(settings), sharding_of(settings))


def _items(loaded: Loaded) -> list[tuple[str, object]]:
    return [(one.name, getattr(loaded.settings, one.name)) for one in fields(Settings)]


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _toml(value: object) -> str:
    """Spell a value in TOML, whose strings, numbers, booleans and lists are those of JSON."""
    return json.dumps(_plain(value), ensure_ascii=False).replace("\x7f", "\\u007f")
