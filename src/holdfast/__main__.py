"""`python -m holdfast` and `holdfast`: the command line, if what it needs is installed."""

import sys


def main() -> None:
    """Run the command line; say what is missing when it was not installed."""
    try:
        from holdfast import cli  # noqa: PLC0415 - click is an extra
    except ModuleNotFoundError as error:
        sys.exit(f"holdfast: the command line needs pip install 'holdfast[all]' ({error})")
    cli.main()


if __name__ == "__main__":
    main()
