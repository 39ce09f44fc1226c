"""`holdfast serve`."""

from pathlib import Path

import click

from holdfast.cli.output import examples
from holdfast.config.load import load


@click.command(
    short_help="Serve a folder over HTTP.",
    epilog=examples(
        "holdfast serve                                  ./data on http://127.0.0.1:3000",
        "holdfast serve --data /srv/blobs --port 8080",
        "holdfast serve --data 'segments:///srv/blobs?compress=zstd'",
        "holdfast serve --workers auto                   a process for each core",
        "holdfast serve --auth keys                      ask everybody for an API key",
        "holdfast serve --data old --move-to 'sqlite:///srv/new?shards=4'",
        "holdfast serve --config holdfast.toml",
    ),
)
@click.option(
    "--data",
    metavar="DIR_OR_URL",
    help="Folder that holds the store; made if missing. [data]",
)
@click.option(
    "--move-to", metavar="DIR_OR_URL", help="Move all of it to another store while it is served."
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on. [127.0.0.1]")
@click.option("--port", metavar="PORT", help="Port to listen on; 0 takes a free one. [3000]")
@click.option("--auth", metavar="WAY", help="keys: ask for API keys; or none. [none]")
@click.option("--workers", metavar="N", help="Processes that serve, or auto. [1]")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error. [info]")
@click.option("--log-format", metavar="FORMAT", help="text or json. [text]")
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen for other machines although nobody must prove who they are.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="HOLDFAST_CONFIG",
    metavar="FILE",
    help="TOML file with settings (docs/config.md).",
)
def serve(config: Path | None, insecure: bool, **flags: str | None) -> None:  # noqa: FBT001
    """Serve the store in a folder until SIGINT or SIGTERM, which finish open requests first.

    One line on stdout says when it is ready, and where. A flag wins over an environment variable
    (HOLDFAST_PORT), which wins over the file.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    loaded = load(config, flags=given | ({"insecure": "true"} if insecure else {}))
    loaded.check_folders()
    from holdfast.http.serve import serve as run  # noqa: PLC0415 - other commands need no server

    run(loaded.settings)
