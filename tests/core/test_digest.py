import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.digest import BlobRef, Digest, Hasher
from holdfast.core.errors import InvalidError

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
HELLO_CID = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EMPTY_CID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


VECTORS = [(b"hello", HELLO, HELLO_CID), (b"", EMPTY, EMPTY_CID)]


@pytest.mark.parametrize(("data", "name", "cid"), VECTORS)
def test_the_known_vectors_hold(data: bytes, name: str, cid: str) -> None:
    digest = Digest.of(data)
    assert digest == bytes.fromhex(name)
    assert digest.hex() == name
    assert str(digest) == f"sha256:{name}"
    assert digest.file_name == f"sha256-{name}"
    assert digest.cid == cid
    assert repr(digest) == f"Digest({name})"


def test_every_spelling_is_read() -> None:
    seed = f"bafyrei{HELLO}"
    for text in (HELLO, f"sha256:{HELLO}", f"sha256-{HELLO}", HELLO_CID, seed):
        assert Digest.parse(text) == Digest.of(b"hello")
    assert Digest.parse(seed).cid == HELLO_CID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        HELLO[:-1],
        HELLO + "0",
        HELLO.upper(),
        f"sha256:{HELLO.upper()}",
        f"SHA256:{HELLO}",
        f"sha256_{HELLO}",
        f"sha512:{HELLO}",
        f"sha256:sha256:{HELLO}",
        f" {HELLO}",
        f"{HELLO}\n",
        HELLO[:-1] + "g",
        HELLO[:-1] + "\u0661",
        HELLO_CID[:-1],
        HELLO_CID + "a",
        HELLO_CID.upper(),
        HELLO_CID[:-1] + "1",
        HELLO_CID.replace("bafkrei", "bafybei"),
        f"sha256-../../{HELLO[:58]}",
        f"bafyrei{HELLO[:-1]}",
        f"bafkrei{HELLO}",
        "x" * 10_000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Digest.parse(text)
    assert len(str(caught.value)) < 300


def test_the_unused_bits_of_a_cid_must_be_zero() -> None:
    """One blob has one name: 58 characters carry 290 bits, two more than 36 bytes have."""
    last = BASE32.index(HELLO_CID[-1])
    for bits in range(1, 4):
        with pytest.raises(InvalidError):
            Digest.parse(HELLO_CID[:-1] + BASE32[last ^ bits])
    other = HELLO_CID[:-1] + BASE32[last ^ 4]
    assert Digest.parse(other).cid == other


@given(st.binary(max_size=300))
def test_spellings_survive_a_round_trip(data: bytes) -> None:
    digest = Digest.of(data)
    assert digest == hashlib.sha256(data).digest()
    for text in (str(digest), digest.hex(), digest.file_name, digest.cid):
        assert Digest.parse(text) == digest


@given(st.text())
def test_any_text_is_a_digest_or_invalid(text: str) -> None:
    for spelling in (text, f"sha256:{text}", f"bafkrei{text}"):
        try:
            digest = Digest.parse(spelling)
        except InvalidError:
            continue
        assert len(digest) == 32


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_a_hasher_does_not_care_how_the_bytes_are_cut(parts: list[bytes]) -> None:
    hasher = Hasher()
    for part in parts:
        hasher.update(memoryview(bytearray(part)))
    data = b"".join(parts)
    assert hasher.ref() == BlobRef(Digest.of(data), len(data))
    assert hasher.ref() == hasher.ref()


def test_a_digest_has_32_bytes_and_orders_as_bytes() -> None:
    for size in (0, 31, 33):
        with pytest.raises(AssertionError):
            Digest(bytes(size))
    digests = [Digest.of(b"%d" % number) for number in range(20)]
    assert sorted(digests) == sorted(map(bytes, digests))
    assert {digests[0]: 1}[bytes(digests[0])] == 1  # type: ignore[index]  # bytes are equal to it
    assert len({Digest.of(b""), Digest.of(b"")}) == 1
