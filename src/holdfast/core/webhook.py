"""Webhooks: who is told of which events, how that is signed, and when it is tried again.

Signatures are those of the Standard Webhooks specification (standardwebhooks.com, version 1.0.0):
HMAC-SHA256 over id, time and body, with a secret that only the receiver knows besides. The id of a
message is that of its event: it stays the same however often it is sent, and to whomever.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.policy import check_bucket, owner_of
from holdfast.core.rates import doubled
from holdfast.core.stream import Event, Kind

SECRET_MARK = "whsec_"  # noqa: S105 - what secrets begin with
SECRET_BYTES = 32
TOPICS = tuple(kind.topic for kind in Kind)
URL_TEXT = re.compile(r"[!-~]+")  # ASCII that can be seen
SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where events are sent to, and which."""

    name: str
    """Its whole name: `alice~orders` is Alice's, `orders` belongs to who runs the store."""
    url: str
    bucket: str = ""
    """Only names of this bucket; without one, of all buckets of its owner, or of all there are."""
    prefix: str = ""
    """Only keys that begin so."""
    topics: tuple[str, ...] = ()
    """Only these; none stands for all."""
    is_paused: bool = False
    """Nothing is sent; events wait as long as the store keeps them."""
    created_us: int = 0

    def __post_init__(self) -> None:
        """Check every member.

        Raises:
            InvalidError: one is out of its bounds.
        """
        check_name(self.name)
        check_url(self.url)
        self._check_bucket()
        if len(self.prefix.encode(errors="replace")) > limits.KEY_BYTES_MAX:
            raise InvalidError("prefix", self.prefix[:100], f"{limits.KEY_BYTES_MAX} bytes")
        for topic in self.topics:
            if topic not in TOPICS:
                raise InvalidError("topics", topic[:100], f"of {', '.join(TOPICS)}")
        if len(set(self.topics)) != len(self.topics):
            raise InvalidError("topics", ", ".join(self.topics), "each once")

    def _check_bucket(self) -> None:
        if not self.bucket:
            return
        check_bucket(self.bucket)
        if self.owner and owner_of(self.bucket) != self.owner:
            raise InvalidError("bucket", self.bucket, f"one of {self.owner}")

    @property
    def owner(self) -> str:
        """Whose it is; empty: that of who runs the store."""
        return owner_of(self.name)

    def wants(self, event: Event) -> bool:
        """Whether it is told of an event."""
        if self.bucket:
            is_place = event.bucket == self.bucket
        else:
            is_place = not self.owner or owner_of(event.bucket) == self.owner
        is_topic = not self.topics or event.kind.topic in self.topics
        return is_place and is_topic and event.key.startswith(self.prefix)


class Secrets(NamedTuple):
    """What messages are signed with, spelled as receivers keep it."""

    current: str
    former: str = ""
    """The one before, which signs as well until a time."""
    former_until_us: int = 0

    def valid(self, now_us: int) -> tuple[str, ...]:
        """Those that sign now."""
        has_former = self.former and now_us < self.former_until_us
        return (self.current, self.former) if has_former else (self.current,)


class Message(NamedTuple):
    """What is sent: the same each time."""

    id: str
    body: bytes


class Outcome(NamedTuple):
    """What came of sending a message once."""

    status: int
    """That of the answer; 0 if there was none."""
    error: str = ""
    """Why there was no answer."""
    retry_after_s: int = 0
    """For how long the receiver wants to be left alone."""

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has it."""
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """Why it was not taken, for people."""
        return self.error or f"answered {self.status}"


class Line(Protocol):
    """A way to receivers, for one thread at a time."""

    def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Outcome:
        """Send once, in bounded time and memory; whatever goes wrong is an outcome."""

    def abort(self) -> None:
        """End what is under way; safe from any thread."""

    def close(self) -> None:
        """Let go."""


def check_name(name: str) -> str:
    """Accept the whole name of a webhook, which is spelled as that of a bucket.

    Raises:
        InvalidError: it is none.
    """
    try:
        return check_bucket(name)
    except InvalidError as error:
        allowed = str(error.facts["allowed"])
        raise InvalidError("webhook", name[:150], allowed) from None


def check_url(url: str) -> str:
    """Accept a URL that messages can be sent to; what its host stands for is looked at later.

    Raises:
        InvalidError: it is none, or holds a password, which would be shown to whoever looks.
    """
    allowed = f"http:// or https://, at most {limits.WEBHOOK_URL_BYTES_MAX} characters of ASCII"
    is_text = URL_TEXT.fullmatch(url) is not None and "\\" not in url
    if not is_text or len(url) > limits.WEBHOOK_URL_BYTES_MAX:
        raise InvalidError("url", ascii(url[:100]), allowed)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidError("url", url[:100], allowed) from None
    if parts.scheme not in SCHEMES or not parts.hostname or port == 0:
        raise InvalidError("url", url[:100], allowed)
    if "@" in parts.netloc or parts.fragment:
        raise InvalidError("url", None, "no name, password or fragment in it")
    return url


def new_secret(random: bytes) -> str:
    """Spell a secret."""
    assert len(random) == SECRET_BYTES
    return SECRET_MARK + base64.b64encode(random).decode()


def headers(message: Message, secrets: Sequence[str], now_us: int) -> list[tuple[str, str]]:
    """What a message carries when it is sent: id, time, and a signature by each secret."""
    at = str(now_us // 1_000_000)
    signed = b".".join((message.id.encode(), at.encode(), message.body))
    signatures = [_sign(secret, signed) for secret in secrets]
    return [
        ("webhook-id", message.id),
        ("webhook-timestamp", at),
        ("webhook-signature", " ".join(signatures)),
    ]


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_MARK))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def message_id(log_id: str, event: Event) -> str:
    """The id of the message of an event: the same for ever, and of no other event."""
    told = (log_id, event.cursor, event.kind, event.bucket, event.key, event.digest, event.at_us)
    text = "\n".join(map(str, told))
    return "msg_" + hashlib.sha256(text.encode()).hexdigest()[:32]


def back_off_s(failures: int, chance: int) -> float:
    """Seconds until the next try: half to the whole of a doubling time, by a byte of chance."""
    longest_s = doubled(limits.WEBHOOK_RETRY_S, failures - 1, limits.WEBHOOK_RETRY_S_MAX)
    return longest_s * (0.5 + chance / 512)
