"""The composition root: from the name of a store to the store."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from holdfast.core.bucket import Bucket
from holdfast.core.errors import InvalidError, UnsupportedError
from holdfast.core.progress import Progress

KEY_VARIABLE = "HOLDFAST_KEY"
TARGETS = "a folder, file:///folder, http://host:port or https://host:port"


def open_bucket(target: str | Path, *, watch: Callable[[Progress], None] | None = None) -> Bucket:
    """Open the store that `target` names: a folder in this process, or a server behind a URL.

    A folder is made when it is missing, and is locked while it is open: one process at a time.
    After a power cut its index is made again first; who wants to `watch` is told how far that is. A
    server is shown the API key in HOLDFAST_KEY, if that is set.

    Raises:
        InvalidError: `target` has another scheme.
        UnavailableError: the folder cannot be used. A server is asked at the first verb only.
    """
    text = str(target)
    if isinstance(target, Path) or "://" not in text:
        return _open_folder(Path(target), watch)
    scheme = urlsplit(text).scheme
    if scheme in {"http", "https"}:
        try:
            from holdfast.client import Client, ClientOptions  # noqa: PLC0415 - httpx is an extra
        except ModuleNotFoundError as error:
            raise UnsupportedError("URLs need pip install 'holdfast[client]'") from error

        return Client(text, options=ClientOptions(key=os.environ.get(KEY_VARIABLE, "")))
    return _open_folder(folder_of(text), watch)


def folder_of(url: str) -> Path:
    """Read the folder from file:///folder or holdfast:///folder.

    >>> folder_of("file:///srv/my%20blobs").as_posix()
    '/srv/my blobs'
    """
    parts = urlsplit(url)
    if parts.scheme not in {"file", "holdfast"} or parts.netloc not in {"", "localhost"}:
        raise InvalidError("store", url, TARGETS)
    if not parts.path or parts.query or parts.fragment:
        raise InvalidError("store", url, TARGETS)
    return Path(unquote(parts.path))


def _open_folder(folder: Path, watch: Callable[[Progress], None] | None) -> Bucket:
    from holdfast.depot.local import open_depot  # noqa: PLC0415 - a client needs no engine

    return open_depot(folder, watch=watch)
