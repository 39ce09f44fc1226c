"""Webhooks as values: signatures by a known example, bounds, what is wanted, back-off."""

import base64

import pytest

from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.stream import Cursor, Event, Kind
from holdfast.core.webhook import (
    SECRET_BYTES,
    Message,
    Secrets,
    Webhook,
    back_off_s,
    headers,
    message_id,
    new_secret,
)

URL = "https://example.org/hook"


def event(bucket: str = "b", key: str = "k", kind: Kind = Kind.UPLOADED) -> Event:
    return Event(Cursor(5), 4, kind, bucket, key, None)


def test_a_message_is_signed_as_the_specification_has_it() -> None:
    """The example of the specification's own libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    said = dict(headers(message, [secret], 1_614_265_330_000_000))
    assert said == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    both = dict(headers(message, [secret, new_secret(bytes(SECRET_BYTES))], 1_614_265_330_000_000))
    first, second = both["webhook-signature"].split(" ")
    assert first == said["webhook-signature"]
    assert second.startswith("v1,")
    assert second != first


def test_a_former_secret_signs_until_its_time() -> None:
    secrets = Secrets("new", "old", 100)
    assert secrets.valid(99) == ("new", "old")
    assert secrets.valid(100) == ("new",)
    assert Secrets("new").valid(0) == ("new",)


def test_a_secret_has_as_many_bits_as_it_should() -> None:
    secret = new_secret(bytes(range(SECRET_BYTES)))
    assert base64.b64decode(secret.removeprefix("whsec_")) == bytes(range(SECRET_BYTES))


def test_the_id_of_a_message_is_that_of_its_event() -> None:
    assert message_id("log", event()) == message_id("log", event())
    others = [
        message_id("other", event()),
        message_id("log", event(key="l")),
        message_id("log", event(kind=Kind.DELETED)),
        message_id("log", event()._replace(cursor=Cursor(5, 1))),
        message_id("log", event()._replace(at_us=1)),
    ]
    assert len({message_id("log", event()), *others}) == 6
    assert "." not in message_id("log", event())


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.org", "ftp://example.org", "file:///etc/passwd", "http://", "https:///x"),
        *("http://a b", "http://a\r\nHost: b", "http://a:99999", "http://a:0", "http://ä.example"),
        *("http://me:secret@example.org", "http://me@example.org", "http://example.org#x"),
        *("http://[::1", "http://a\\@b", "https://example.org/" + "x" * 2000),
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        Webhook(name="w", url=url)


@pytest.mark.parametrize("url", [URL, "http://[2001:db8::1]:8080/x?y=z", "http://10.0.0.1/"])
def test_a_good_url_is_taken(url: str) -> None:
    assert Webhook(name="w", url=url).url == url


@pytest.mark.parametrize(
    "members",
    [
        {"name": "W"},
        {"name": ""},
        {"name": "a~b~c"},
        {"bucket": "B"},
        {"name": "alice~w", "bucket": "bob~photos"},
        {"name": "alice~w", "bucket": "photos"},
        {"prefix": "x" * 1025},
        {"topics": ("everything",)},
        {"topics": ("_:blob:uploaded", "_:blob:uploaded")},
    ],
)
def test_bad_members_are_refused(members: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        Webhook(**{"name": "w", "url": URL, **members})  # type: ignore[arg-type]


def test_a_webhook_wants_what_it_says_and_nothing_of_others() -> None:
    everything, hers = Webhook(name="w", url=URL), Webhook(name="alice~w", url=URL)
    assert everything.wants(event("b"))
    assert everything.wants(event("alice~b"))
    assert hers.wants(event("alice~b"))
    assert not hers.wants(event("b"))
    assert not hers.wants(event("bob~b"))
    assert not hers.wants(event("alicea~b"))
    one = Webhook(name="alice~w", url=URL, bucket="alice~b", prefix="x/")
    assert one.wants(event("alice~b", "x/1"))
    assert not one.wants(event("alice~b", "y/1"))
    assert not one.wants(event("alice~c", "x/1"))
    deleted = Webhook(name="w", url=URL, topics=("_:blob:deleted",))
    assert deleted.wants(event(kind=Kind.DELETED))
    assert not deleted.wants(event(kind=Kind.UPLOADED))


def test_waits_double_up_to_an_hour_and_differ_by_chance() -> None:
    longest = [back_off_s(failures, 255) for failures in range(1, 20)]
    shortest = [back_off_s(failures, 0) for failures in range(1, 20)]
    assert shortest[:4] == [0.5, 1, 2, 4]
    assert shortest[-1] == limits.WEBHOOK_RETRY_S_MAX / 2
    assert all(1.9 < a / b < 2 for a, b in zip(longest, shortest, strict=True))
    assert back_off_s(10**9, 255) <= limits.WEBHOOK_RETRY_S_MAX
