"""Stamps: when every part of the store was last read from the disk, and what was found there.

They say of each blob when it was last verified, at the price of one stamp for each region (a
segment of 256 MiB, a folder of files), and where a pass over everything goes on after a restart.
The file `scrub` keeps them beside the index. It is a hint: replaced without a sync, believed only
in the folder that it was made in, and without it the next pass begins at the beginning.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from xxhash import xxh3_64_intdigest

from holdfast.core import limits
from holdfast.core.inspection import Finding
from holdfast.core.marker import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from holdfast.core.digest import Digest
    from holdfast.core.inspection import Medium, Seen
    from holdfast.core.seams import Disk

CHECKSUM_BYTES = 8
NAME = "scrub"
SECOND_US = 1_000_000


class Stamp(msgspec.Struct):
    """What one reading of a region came to."""

    began_us: int
    end: int = 0
    """All positions before it were read."""
    read_bytes: int = 0
    blobs: int = 0
    found: int = 0
    findings: list[Finding] = []
    """As many of those found as are kept."""

    def add(self, seen: Seen) -> list[Finding]:
        """Take what was seen; return the findings that are new."""
        self.end = seen.position
        self.read_bytes += seen.size_bytes
        self.blobs += seen.blobs
        new = [each for each in seen.findings if each not in self.findings]
        self.found += len(new)
        self.findings += new[: max(0, limits.FINDINGS_MAX - len(self.findings))]
        return new

    def keep(self, findings: list[Finding]) -> None:
        """Forget all findings but these, for the others were repaired."""
        self.found -= len(self.findings) - len(findings)
        self.findings = findings


class Pass(msgspec.Struct):
    """The file: the pass that runs or ran last, and a stamp for every region."""

    folder: str
    """Which folder this is about."""
    number: int = 0
    began_us: int = 0
    ended_us: int = 0
    """0 while it runs."""
    completed_us: int = 0
    """When a pass last ended."""
    repaired: int = 0
    left_bytes: int = 0
    """About what is still to be read, and how much of it is read in a second."""
    rate: float = 0.0
    region: str = ""
    """Which one is being read, and `current` is what came of it so far."""
    current: Stamp = msgspec.field(default_factory=lambda: Stamp(0))
    stamps: dict[str, Stamp] = {}

    def every_stamp(self) -> list[Stamp]:
        """What is known of all regions; of the one that is being read, old and new."""
        stamps = list(self.stamps.values())
        return [*stamps, self.current] if self.region else stamps

    def findings(self) -> set[Finding]:
        """What is known to be wrong now."""
        return {finding for stamp in self.every_stamp() for finding in stamp.findings}

    def gauges(self) -> Mapping[str, float]:
        """How far the pass is, and what is known to be wrong, as docs/operations.md explains."""
        stamps = self.every_stamp()
        kinds = [finding.kind for finding in self.findings()]
        left_bytes = 0 if self.ended_us else self.left_bytes
        oldest_us = min((stamp.began_us for stamp in stamps), default=0)
        read = [stamp.read_bytes for stamp in stamps if stamp.began_us >= self.began_us]
        return {
            "pass": self.number,
            "read_bytes": sum(read),
            "left_bytes": left_bytes,
            "left_s": left_bytes / self.rate if self.rate else 0.0,
            "completed_s": self.completed_us / SECOND_US,
            "oldest_s": oldest_us / SECOND_US if self.completed_us else 0.0,
            "damaged_records": kinds.count("record"),
            "damaged_blobs": kinds.count("blob"),
            "broken_entries": kinds.count("entry"),
            "repaired_blobs": self.repaired,
        }

    def stamp_of(self, region: str, position: int) -> Stamp | None:
        """The last reading of one place."""
        if region == self.region and position < self.current.end:
            return self.current
        stamp = self.stamps.get(region)
        return stamp if stamp is not None and position < stamp.end else None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Pass).decode


class Stamps:
    """The stamps of the store in one folder: written by one scrub, read by anybody."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self._path = folder / NAME
        self._marker = folder / "HOLDFAST"
        self._disk = disk
        self._pass: Pass | None = None
        self._version = (0, 0)
        self._is_owned = False

    def own(self) -> Pass:
        """Take the stamps to change them; `save` writes them."""
        found = self.read()
        self._is_owned = True
        return found

    def read(self) -> Pass:
        """What is known: what this process writes, else what the file says now."""
        if self._pass is None or not self._is_owned:
            self._reload()
        assert self._pass is not None
        return self._pass

    def save(self) -> None:
        """Write the file anew.

        Raises:
            OSError: the disk refuses; the old one stays.
        """
        assert self._pass is not None
        data = _encode(self._pass)
        replace_file(self._path, _checksum(data) + data, self._disk, is_hint=True)

    def verified_us(self, media: Sequence[Medium], digest: Digest) -> int | None:
        """When a blob was last read from the disk and found sound; None when that is not known.

        It was so at that time at the earliest, in microseconds since 1970 UTC.
        """
        known = self.read()
        for medium in media:
            place = medium.place(digest)
            if place is None:
                continue
            stamp = known.stamp_of(place.region, place.position)
            if stamp is None or place.since_us >= stamp.began_us:
                return None
            is_known = stamp.found <= len(stamp.findings)
            is_damaged = any(each.digest == str(digest) for each in stamp.findings)
            return stamp.began_us if is_known and not is_damaged else None
        return None

    def _reload(self) -> None:
        version = identity(self._path)
        if self._pass is None or version != self._version:
            self._version = version
            self._pass = self._load()

    def _load(self) -> Pass:
        """Read the file; what is damaged, or about another folder, is as good as none."""
        folder = "{}-{}".format(*identity(self._marker))
        with suppress(OSError, msgspec.DecodeError):
            data = self._path.read_bytes()
            if data[:CHECKSUM_BYTES] == _checksum(data[CHECKSUM_BYTES:]):
                found = _decode(data[CHECKSUM_BYTES:])
                if found.folder == folder:
                    return found
        return Pass(folder)


def identity(path: Path) -> tuple[int, int]:
    """Number and time of change of a file, which no copy of it shares."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_ino, status.st_ctime_ns


def _checksum(data: bytes) -> bytes:
    return xxh3_64_intdigest(data).to_bytes(CHECKSUM_BYTES, "little")
