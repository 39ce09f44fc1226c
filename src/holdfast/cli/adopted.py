"""What an import did, and how that is printed."""

from dataclasses import dataclass, field

import click

from holdfast.cli.output import human_size, shown
from holdfast.core import limits
from holdfast.core.errors import InvalidError, TooLargeError, UnsupportedTypeError
from holdfast.stores.bloblog import Damage

REFUSED = (InvalidError, TooLargeError, UnsupportedTypeError)
"""What is wrong with one blob, and with no other."""


@dataclass(slots=True)
class Adopted:
    """What an import did."""

    blobs: int = 0
    size_bytes: int = 0
    damaged: int = 0
    places: list[Damage] = field(default_factory=list)
    """As many of the damaged ones as are kept."""

    refused: list[tuple[str, str]] = field(default_factory=list)
    """What could not be stored, and why."""
    expired: int = 0
    """Rows whose time was over."""
    kept: int = 0
    """Keys that were there and were to stay as they are."""

    def refuse(self, what: str, why: str) -> None:
        """Count what cannot be stored."""
        self.damaged += 1
        if len(self.refused) < limits.FINDINGS_MAX:
            self.refused.append((what, why))

    def add(self, size_bytes: int) -> None:
        """Count a blob that is stored now."""
        self.blobs += 1
        self.size_bytes += size_bytes

    def tell(self, damage: Damage) -> None:
        """Count what cannot be read."""
        self.damaged += 1
        if len(self.places) < limits.FINDINGS_MAX:
            self.places.append(damage)


def document(adopted: Adopted) -> dict[str, object]:
    """All of it, for JSON."""
    places = [
        {"file": str(path), "offset": offset, "size_bytes": size_bytes}
        for path, offset, size_bytes in adopted.places
    ]
    return {
        "blobs": adopted.blobs,
        "size_bytes": adopted.size_bytes,
        "damaged": adopted.damaged,
        "places": places,
        "refused": [{"what": what, "why": why} for what, why in adopted.refused],
        "expired": adopted.expired,
        "kept": adopted.kept,
    }


def print_adopted(adopted: Adopted) -> None:
    """Print it for people."""
    for path, offset, size_bytes in adopted.places:
        click.echo(f"damaged  {shown(str(path))}  {size_bytes} bytes at {offset}")
    for what, why in adopted.refused:
        click.echo(f"refused  {shown(what)}  {why}")
    size = human_size(adopted.size_bytes)
    expired = f", {adopted.expired} expired" if adopted.expired else ""
    kept = f", {adopted.kept} kept as they were" if adopted.kept else ""
    click.echo(
        f"{adopted.blobs} blobs ({size}) stored{expired}{kept}, {adopted.damaged} places damaged"
    )
