"""The command line: `holdfast serve`, and the verbs of a bucket on a folder or a URL."""

from holdfast.cli.program import cli, main

__all__ = ["cli", "main"]
