"""From the URL of an object store to requests to it.

    s3://bucket/prefix    gs://bucket/prefix    az://container/prefix    file:///folder

Credentials, regions and endpoints come from the environment, in the variables of each provider's
own tools (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS,
AZURE_STORAGE_ACCOUNT_KEY, ...), or from the machine that this runs on. None is ever in a URL, so
that a URL may be written down and shown. An endpoint without TLS is for machines that trust the
network between.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from holdfast.core import limits
from holdfast.core.errors import InvalidError, UnavailableError, UnsupportedError
from holdfast.core.seams import Disk
from holdfast.core.urls import shown_url
from holdfast.stores.naming import MARKER

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

    from holdfast.core.seams import Clock, Entropy
    from holdfast.stores.remote import Remote

OBJECT_URLS = (
    "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder, "
    "without a user, options or spaces"
)
SCHEMES = {"s3", "gs", "az", "file"}
ENDPOINTS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    *("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "GOOGLE_BASE_URL",
)


def check_url(url: str, option: str = "large") -> str:
    """See that a URL names an object store, and holds no secret; without a slash at its end.

    Errors are about `option`.

    >>> check_url("s3://photos/holdfast/")
    's3://photos/holdfast'

    Raises:
        InvalidError: it does not.
    """
    try:
        parts = urlsplit(url)
        is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
    except ValueError:
        raise InvalidError(option, shown_url(url), OBJECT_URLS) from None
    is_folder = url.startswith("file:///") and bool(parts.path.strip("/"))
    has_place = is_folder if parts.scheme == "file" else parts.netloc
    if parts.scheme not in SCHEMES or not is_plain or not has_place:
        raise InvalidError(option, shown_url(url), OBJECT_URLS)
    return url.rstrip("/")


def connect(url: str, clock: Clock, entropy: Entropy, disk: Disk | None = None) -> Remote:
    """Make what sends requests to an object store; nothing is asked of it yet, nothing made there.

    Raises:
        InvalidError: the URL or a variable of the environment is none that it takes.
        UnavailableError: there is no such folder: it may be on a disk that is not mounted.
        UnsupportedError: the client is not installed.
    """
    place = check_url(url)
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
        from obstore.store import from_url  # noqa: PLC0415

        from holdfast.stores.remote import Remote  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UnsupportedError("object stores need pip install 'holdfast[objects]'") from error
    if place.startswith("file:"):
        root = Path(unquote(urlsplit(place).path))
        disk = disk or Disk()
        settle = partial(_sync, disk, root)
        return Remote(_folder(place, root, disk), place, clock, entropy, settle=settle)
    is_bare = any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)

    def client(wait_s: float) -> Client:
        return from_url(
            place,
            client_options={"allow_http": is_bare, "timeout": timedelta(seconds=wait_s)},
            retry_config={"max_retries": 0},
        )

    try:
        bucket = client(limits.OBJECT_REQUEST_S)
    except (BaseError, ValueError, OSError):  # whose text may have what a variable holds
        allowed = "the variables of its provider's tools (docs/config.md)"
        raise InvalidError("environment", place, allowed) from None
    remote = Remote(bucket, place, clock, entropy)
    remote.client_within = client
    return remote


def _folder(place: str, root: Path, disk: Disk) -> Client:
    """Use a folder that is there: one that is not may be on a disk that is not mounted."""
    from obstore.store import LocalStore  # noqa: PLC0415 - an extra

    try:
        if root.is_dir():
            with suppress(PermissionError):  # who may not read the parent did not make it just now
                disk.sync_directory(root.parent)
            return LocalStore(root)
    except OSError as error:
        raise UnavailableError(f"{place}: {error.strerror}") from error
    raise UnavailableError(f"{place}: there is no such folder: make it, or mount its disk")


def _sync(disk: Disk, root: Path, name: str) -> None:
    """Make an object in a folder, or its absence, survive a power cut.

    Raises:
        OSError: the disk refuses, or another folder has come into its place: it was unmounted.
    """
    if name != MARKER and not (root / MARKER).exists():
        raise OSError(errno.ENODEV, "it is not mounted")
    path = root / name
    with suppress(FileNotFoundError):
        descriptor = disk.open(path, os.O_RDONLY)
        try:
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
    for folder in path.parents:
        if folder.is_dir():
            disk.sync_directory(folder)
        if folder == root:
            return
