"""Keys of any length in LMDB against a dict: order, bounds, and nothing left behind."""

import bisect
import itertools
import random
from collections.abc import Iterator

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.log.keys import LAST_NODE, PIECE_BYTES, TAIL_PIECE_BYTES, Keys
from holdfast.testing.folders import quick_folder

STEM = PIECE_BYTES
STEP = TAIL_PIECE_BYTES
LENGTHS = [
    node + near
    for node in (STEM, STEM + STEP, STEM + 2 * STEP, 511, 500 + 511)
    for near in (-1, 0, 1)
]
FILLS = [b"\x00", b"k", b"\xff"]
ENDS = [b"", b"\x00", b"\x00\x00", b"\x01", b"\xfe", b"\xff", b"\xff\xff", b"\x00\xff"]


@st.composite
def keys(draw: st.DrawFn) -> bytes:
    """Keys that share long beginnings and part close to a boundary between two pieces."""
    length = draw(st.sampled_from([0, 0, 3, *LENGTHS]))
    base = draw(st.sampled_from(FILLS)) * length
    if draw(st.booleans()) and length > 10:
        at = draw(st.sampled_from([length - 1, length // 2, length - 3]))
        base = base[:at] + draw(st.sampled_from([b"\x00", b"a", b"\xff"])) + base[at + 1 :]
    end = draw(st.one_of(st.sampled_from(ENDS), st.binary(max_size=4)))
    return (base + end) or b"\x00"


class Space:
    """The tables in an environment of their own, with every change in a transaction."""

    def __init__(self, folder: str) -> None:
        self._environment = lmdb.open(folder, map_size=1 << 30, max_dbs=4, sync=False)
        self._keys = Keys(self._environment)

    def put(self, *pairs: tuple[bytes, bytes]) -> None:
        with self._environment.begin(write=True) as txn:
            self._keys.put_many(txn, sorted(pairs))

    def delete(self, key: bytes) -> None:
        with self._environment.begin(write=True) as txn:
            self._keys.delete(txn, key)

    def get(self, key: bytes) -> bytes | None:
        with self._environment.begin() as txn:
            one, many = self._keys.get(txn, key), self._keys.get_many(txn, [key, key])
        assert many == ({} if one is None else {key: one})
        return one

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> list[bytes]:
        with self._environment.begin() as txn:
            return [key for key, _ in self._keys.walk(txn, start, end, reverse=reverse)]

    def rows(self) -> int:
        """How many rows both tables have, but for the row that counts nodes."""
        with self._environment.begin() as txn:
            tails = self._environment.open_db(b"tails", txn=txn, create=False)
            counter = txn.get(LAST_NODE, db=tails) is not None
            rows: int = txn.stat(self._keys.table)["entries"] + txn.stat(tails)["entries"]
            return rows - counter

    def close(self) -> None:
        self._environment.close()


@pytest.fixture
def space() -> Iterator[Space]:
    with quick_folder() as folder:
        opened = Space(str(folder))
        yield opened
        opened.close()


def check_scans(space: Space, model: dict[bytes, bytes], bounds: list[bytes]) -> None:
    ordered = sorted(model)
    for start, end in itertools.product(bounds, bounds):
        expected = ordered[bisect.bisect_left(ordered, start) : bisect.bisect_left(ordered, end)]
        assert space.scan(start, end) == expected
        assert space.scan(start, end, reverse=True) == expected[::-1]


@settings(max_examples=150, deadline=None)
@given(
    puts=st.lists(keys(), max_size=25),
    deletes=st.lists(keys(), max_size=10),
    bounds=st.lists(keys(), max_size=4),
)
def test_the_tables_behave_as_a_dict(
    puts: list[bytes], deletes: list[bytes], bounds: list[bytes]
) -> None:
    with quick_folder() as folder:
        space = Space(str(folder))
        model: dict[bytes, bytes] = {}
        for number, key in enumerate(puts):
            model[key] = b"%d" % number
            space.put((key, model[key]))
        for key in [*deletes, *puts[::3]]:
            model.pop(key, None)
            space.delete(key)
        for key in {*puts, *deletes, *bounds}:
            assert space.get(key) == model.get(key)
        edges = [b"", b"\xff" * 4097, *bounds, *puts[:2], *(key + b"\x00" for key in puts[2:4])]
        check_scans(space, model, edges)
        for key in list(model):
            space.delete(key)
        assert space.rows() == 0
        space.close()


def test_every_boundary_keeps_the_order(space: Space) -> None:
    every = {fill * length + end for fill in FILLS for length in LENGTHS for end in ENDS}
    model = {key: b"%d" % len(key) for key in every}
    space.put(*model.items())
    ordered = sorted(model)
    assert space.scan(b"", b"\xff" * 4097) == ordered
    assert space.scan(b"", b"\xff" * 4097, reverse=True) == ordered[::-1]
    dice = random.Random(1)
    bounds = dice.sample(ordered, 20)
    bounds += [key[:-1] for key in bounds[:7]] + [key + b"\x00" for key in bounds[7:14]]
    bounds += [key[: STEM + at] for key in bounds[:3] for at in (-1, 0, 1, STEP, STEP + 1)]
    check_scans(space, model, bounds)


def test_deletes_leave_nothing_behind(space: Space) -> None:
    every = sorted({fill * length + end for fill in FILLS for length in LENGTHS for end in ENDS})
    for seed in range(4):
        space.put(*((key, b"") for key in every))
        for key in random.Random(seed).sample(every, len(every)):
            space.delete(key)
            space.delete(key)
        assert space.rows() == 0


def test_deleting_one_key_keeps_its_neighbours(space: Space) -> None:
    long = b"k" * 4000
    neighbours = [long[:length] for length in (499, 500, 501, 980, 981, 1460, 1461, 3999, 4000)]
    space.put(*((key, b"") for key in neighbours))
    for at, key in enumerate(neighbours):
        space.delete(key + b"!")
        space.delete(key)
        assert space.scan(b"", b"\xff") == neighbours[at + 1 :]
        assert space.scan(b"", b"\xff", reverse=True) == neighbours[:at:-1]
    assert space.rows() == 0
