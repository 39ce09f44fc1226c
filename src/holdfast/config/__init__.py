"""Settings of a server, and the place where a target becomes a store."""

from holdfast.config.load import Loaded, load
from holdfast.config.settings import Settings
from holdfast.config.target import open_bucket

__all__ = ["Loaded", "Settings", "load", "open_bucket"]
