"""Webhooks in the admin face (docs/http.md, "Webhooks").

A webhook hears what its owner has, so whoever sets one must be allowed to read and list all of
that. Its secret is shown when it is made or rotated, and never again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.core import limits
from holdfast.core.access import Scope
from holdfast.core.errors import DeniedError, InvalidError, NotFoundError, UnavailableError
from holdfast.core.policy import OWNER_MARK, bucket_of
from holdfast.core.seams import SystemEntropy
from holdfast.core.stream import Kind
from holdfast.core.webhook import Outcome, Webhook, check_name
from holdfast.depot.webhooks import position
from holdfast.http import members
from holdfast.http.members import plain
from holdfast.http.message import Answer
from holdfast.services.messages import ping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.core.access import Caller
    from holdfast.core.seams import Clock
    from holdfast.core.webhook import Line
    from holdfast.depot.webhooks import Letter, Standing, Stored, Webhooks
    from holdfast.http.deeds import Clerk

TOPICS = {str(kind): kind.topic for kind in Kind}
"""Plain names of topics."""


class Pings:
    """Tests of webhooks: few at once, for each holds a thread for as long as its receiver likes."""

    def __init__(self, dial: Callable[[], Line], clock: Clock) -> None:
        self._dial = dial
        self._clock = clock
        self._entropy = SystemEntropy()
        self._room = threading.BoundedSemaphore(limits.WEBHOOK_PINGS_MAX)

    def send(self, stored: Stored) -> Outcome:
        """Send one and wait for what comes of it.

        Raises:
            UnavailableError: too many are under way.
        """
        if not self._room.acquire(blocking=False):
            raise UnavailableError("too many tests of webhooks are under way")
        line = self._dial()
        try:
            return ping(line, stored, self._clock, self._entropy)
        finally:
            line.close()
            self._room.release()


class HookCall:
    """One request about webhooks."""

    def __init__(self, hooks: Webhooks, pings: Pings, caller: Caller, body: bytes) -> None:
        self._hooks = hooks
        self._pings = pings
        self._caller = caller
        self._body = body

    def verbs(
        self, parts: Sequence[str], asked: dict[str, str], clerk: Clerk
    ) -> Mapping[str, Callable[[], Answer]]:
        """What can be done at a path below /admin/webhooks; `clerk` writes down what is.

        Raises:
            UnauthenticatedError, DeniedError: the caller may not.
            NotFoundError: so that it learns nothing.
            InvalidError: the name is none.
        """
        self._check()
        if not parts:
            return {"GET": lambda: self._list(asked)}
        name = self._name(parts[0])
        if len(parts) == 1:
            return {
                "GET": lambda: self._one(name),
                "PUT": lambda: self._put(name, clerk),
                "DELETE": lambda: self._remove(name, clerk),
            }
        below: Mapping[str, Mapping[str, Callable[[], Answer]]] = {
            "rotate": {"POST": lambda: self._rotate(name, clerk)},
            "test": {"POST": lambda: self._test(name, clerk)},
            "dead": {"GET": lambda: self._dead(name, asked)},
            "redeliver": {"POST": lambda: self._redeliver(name, clerk)},
        }
        return below.get("/".join(parts[1:]), {})

    def _check(self) -> None:
        self._caller.check_admin()
        key = self._caller.key
        if key is not None and key.buckets:
            raise DeniedError("the key is for some buckets, and webhooks are over all")

    def _name(self, name: str) -> str:
        """The whole name of a webhook that the caller may look after."""
        whole = name if OWNER_MARK in name else bucket_of(self._caller.owner, name)
        owner = check_name(whole).rpartition(OWNER_MARK)[0]
        if not self._caller.is_operator and owner != self._caller.owner:
            raise NotFoundError("no such webhook", webhook=whole[:150])
        return whole

    def _list(self, asked: dict[str, str]) -> Answer:
        owner = None if self._caller.is_operator else self._caller.owner
        return members.page(
            "webhooks",
            lambda after, limit: self._hooks.page(after, limit, owner),
            asked,
            lambda webhook: webhook.name,
            lambda webhook: _described(webhook, self._hooks.standing(webhook.name)),
        )

    def _one(self, name: str) -> Answer:
        return members.answer(200, self._shown(name))

    def _put(self, name: str, clerk: Clerk) -> Answer:
        self._check_hears()
        deed = clerk.deed("webhook.set", webhook=name)
        _, secret = self._hooks.put(self._wanted(name), also=clerk.writes(deed))
        clerk.tell(deed)
        shown = self._shown(name)
        return members.answer(201, {**shown, "secret": secret}) if secret else _ok(shown)

    def _check_hears(self) -> None:
        """See that a webhook hears of nothing that its maker's key does not, nor for longer."""
        key = self._caller.key
        assert key is not None
        if not {Scope.READ, Scope.LIST} <= set(key.scopes):
            raise DeniedError("a webhook hears of names: the key needs the scopes read and list")
        if not self._caller.is_operator and (key.expires_us or key.networks):
            raise DeniedError("a webhook would outlive the key, or reach farther")

    def _wanted(self, name: str) -> Webhook:
        """What the body wants, where names are whole and topics are spelled in full."""
        said = members.read_object(self._body)
        bucket = said.get("bucket")
        if isinstance(bucket, str) and bucket and OWNER_MARK not in bucket:
            said["bucket"] = bucket_of(name.rpartition(OWNER_MARK)[0], bucket)
        topics = said.get("topics")
        if isinstance(topics, list):
            said["topics"] = [
                TOPICS.get(one, one) if isinstance(one, str) else one for one in topics
            ]
        if "url" not in said:
            raise InvalidError("url", None, "where to send to")
        return members.read(Webhook, msgspec.json.encode(said), {"name": name})

    def _remove(self, name: str, clerk: Clerk) -> Answer:
        deed = clerk.deed("webhook.remove", webhook=name)
        if self._hooks.remove(name, also=clerk.writes(deed)):
            clerk.tell(deed)
        return Answer(204, b"", length=-1)

    def _rotate(self, name: str, clerk: Clerk) -> Answer:
        said = members.read_object(self._body)
        overlap_s = said.pop("overlap_s", limits.WEBHOOK_OVERLAP_S)
        is_whole = isinstance(overlap_s, int) and not isinstance(overlap_s, bool)
        if said or not is_whole or not 0 <= overlap_s <= limits.WEBHOOK_OVERLAP_S_MAX:
            allowed = f"overlap_s, 0 to {limits.WEBHOOK_OVERLAP_S_MAX}"
            raise InvalidError("body", None, allowed)
        deed = clerk.deed("webhook.rotate", webhook=name)
        secret = self._hooks.rotate(name, overlap_s, also=clerk.writes(deed))
        clerk.tell(deed)
        return members.answer(200, {**self._shown(name), "secret": secret})

    def _test(self, name: str, clerk: Clerk) -> Answer:
        outcome = self._pings.send(self._hooks.stored(name))
        clerk.keep(clerk.deed("webhook.test", webhook=name))
        answered = {
            "delivered": outcome.is_taken,
            "status": outcome.status or None,
            "error": None if outcome.is_taken else outcome.reason,
        }
        return members.answer(200, answered)

    def _dead(self, name: str, asked: dict[str, str]) -> Answer:
        return members.page(
            "dead",
            lambda after, limit: self._hooks.dead(name, after, limit),
            asked,
            position,
            _letter,
        )

    def _redeliver(self, name: str, clerk: Clerk) -> Answer:
        said = members.read_object(self._body)
        ids = said.pop("ids", None)
        is_list = isinstance(ids, list) and len(ids) <= limits.BATCH_REFS_MAX
        if said or not (ids is None or (is_list and all(isinstance(one, str) for one in ids))):
            allowed = f"ids, a list of at most {limits.BATCH_REFS_MAX}, or nothing for all"
            raise InvalidError("body", None, allowed)
        count = self._hooks.redeliver(name, None if ids is None else frozenset(ids))
        clerk.keep(clerk.deed("webhook.redeliver", webhook=name))
        return members.answer(200, {"asked": count})

    def _shown(self, name: str) -> dict[str, Any]:
        webhook, standing = self._hooks.get(name)
        return _described(webhook, (standing, 0))


def _described(webhook: Webhook, found: tuple[Standing, int] | None) -> dict[str, Any]:
    """A webhook and where it stands, unless it went at this moment."""
    if found is None:
        return plain(webhook)
    standing, _ = found
    return {**plain(webhook), "state": _state(webhook, standing), **_standing(standing)}


def _state(webhook: Webhook, standing: Standing) -> str:
    """In one word how it is."""
    if webhook.is_paused:
        return "paused"
    if standing.gone_us:
        return "gone"
    return "failing" if standing.failures else "open"


def _standing(standing: Standing) -> dict[str, Any]:
    shown = plain(standing)
    del shown["is_asked"]
    return shown


def _letter(one: Letter) -> dict[str, Any]:
    """What is shown of a dead letter: not what it says of names."""
    shown = plain(one.letter)
    del shown["body"]
    return shown


def _ok(value: dict[str, Any]) -> Answer:
    return members.answer(200, value)
