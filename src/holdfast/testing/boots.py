"""What a new boot of the machine changes, beside what a power cut has lost."""

import random
from pathlib import Path

PAGE_BYTES = 4096
KEEP_ODDS = 0.5


def boot_again(folder: Path, seed: int = 0) -> None:
    """Change what a new boot of the machine changes in the folder of a store.

    An index that was open in the boot before is of another boot now, and has some of its pages:
    LMDB writes them past the disk that forgets. An index that was closed in order stays.
    """
    state, data = folder / "index" / "state", folder / "index" / "data.mdb"
    if not state.exists() or state.read_bytes().startswith(b"clean"):
        return
    state.write_text("another boot")
    dice = random.Random(seed)
    with data.open("r+b") as file:
        for at in range(0, data.stat().st_size, PAGE_BYTES):
            if dice.random() < KEEP_ODDS:
                file.seek(at)
                file.write(dice.randbytes(PAGE_BYTES))
