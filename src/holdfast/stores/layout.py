"""Where the files of a FileStore lie: 256 folders by the first byte of the digest, and `tmp`."""

import os
import re
from contextlib import suppress
from pathlib import Path

from holdfast.core.digest import Digest
from holdfast.core.seams import Disk
from holdfast.stores.handles import blob_error

NAME = re.compile(r"[0-9a-f]{64}\.blob")
FOLDER = re.compile(r"[0-9a-f]{2}")
FOLDERS = 256
TEMPORARY = "tmp"


def sweep(root: Path, process: int, disk: Disk) -> None:
    """Remove the temporary files of a process that is no more.

    Raises:
        OSError: the disk refuses.
    """
    for name in os.listdir(root / TEMPORARY):  # noqa: PTH208 - names are all we need
        if name.startswith(f"{process}-"):
            disk.unlink(root / TEMPORARY / name)


def blob_path(root: Path, digest: Digest) -> Path:
    """Where a blob's file lies."""
    name = digest.hex()
    return root / name[:2] / f"{name}.blob"


def digests_in(folder: Path) -> list[Digest]:
    """The digests that one folder names, in order; whatever else lies there is ignored.

    Raises:
        UnavailableError: the disk refuses.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all we need
    except FileNotFoundError:
        return []
    except OSError as error:
        raise blob_error("listing blobs", error) from error
    found = sorted(name for name in names if NAME.fullmatch(name) and name[:2] == folder.name)
    return [Digest(bytes.fromhex(name[:64])) for name in found]


def folders_in(root: Path) -> list[str]:
    """The names of the folders of blobs that are there."""
    return sorted(name for name in os.listdir(root) if FOLDER.fullmatch(name))  # noqa: PTH208


def sizes_in(folder: Path) -> list[int]:
    """The sizes of the files in one folder; those that go meanwhile may be left out.

    Raises:
        OSError: the disk refuses.
    """
    sizes = []
    with os.scandir(folder) as files:
        for file in files:
            with suppress(FileNotFoundError):
                sizes.append(file.stat(follow_symlinks=False).st_size)
    return sizes
