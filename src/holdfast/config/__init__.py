"""Settings of a server, and the place where a target becomes a store."""

from holdfast.config.target import open_bucket

__all__ = ["open_bucket"]
