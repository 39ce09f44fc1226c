"""holdfast: a blob store that begins as an import and becomes a server with one command."""

from holdfast.config import open_bucket as open  # noqa: A004 - `holdfast.open` is the point
