"""The gate: whether a request is let in, and who it comes from.

Every request passes `check` before its body is read and before anything is done for it: whether its
address may come (http/address), and whether its address, its key and its owner have not asked for
too much (http/meters). `enter` then says who it is, by the API key that it shows: `Authorization:
Bearer <key>`, or Basic with the key as password and any name (RFC 6750, RFC 7617). Who shows none
is nobody and may read what is public; who shows a wrong one is refused, and is not even looked at
any more when that happens too often. A signed URL (http/presigned) is its key, for what it was
signed for.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from holdfast import wire
from holdfast.core import limits
from holdfast.core.access import OPERATOR, Caller, unauthenticated
from holdfast.core.errors import DeniedError, RateError
from holdfast.core.networks import account, allows
from holdfast.core.policy import NOBODY
from holdfast.core.rates import NO_RATES, Rates
from holdfast.http.address import Way
from holdfast.http.meters import Bill
from holdfast.http.presigned import held, is_for_blob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.config.settings import Settings
    from holdfast.core.seams import Clock
    from holdfast.depot.keys import Keys
    from holdfast.http.message import Request
    from holdfast.http.meters import Meter, Meters, Standing

AUTHORIZATION = b"authorization"
BEARER = b"Bearer "  # as nearly everybody spells it
NOBODY_KNOWN = Caller(None, is_steady=True)
UNMETERED = frozenset((b"/healthz", b"/readyz"))
"""A busy client must not make a server look sick."""
ADDRESS, KEY, OWNER, FAILURES = "address", "key", "owner", "failures"
MINUTE_S = 60


class Rules(NamedTuple):
    """What a server asks of everybody."""

    asks_keys: bool = False
    way: Way = Way()
    address: Rates = NO_RATES
    key: Rates = NO_RATES
    """Where a key has none of its own."""
    owner: Rates = NO_RATES
    failures_minute: int = limits.AUTH_FAILURES_MINUTE
    """Of authentication, from one address; 0: no limit."""


def rules(settings: Settings) -> Rules:
    """What the settings of a server say of it."""
    burst_s = settings.rate_burst_s
    return Rules(
        settings.asks_keys,
        Way(settings.networks, settings.trusted_proxies, settings.proxy_header.encode()),
        Rates(settings.address_requests_s, settings.address_bytes_s, burst_s),
        Rates(settings.key_requests_s, settings.key_bytes_s, burst_s),
        Rates(settings.owner_requests_s, settings.owner_bytes_s, burst_s),
        settings.auth_failures_minute,
    )


class Place(NamedTuple):
    """What is counted of an address."""

    meters: tuple[Meter, ...]
    failures: Meter | None


class Gate:
    """Knows callers; safe from any thread."""

    def __init__(self, keys: Keys, clock: Clock, meters: Meters, rules: Rules) -> None:
        self._keys = keys
        self._clock = clock
        self._meters = meters
        self._rules = rules
        self._places: dict[str, Place] = {}
        self._of_callers: dict[Caller, tuple[Meter, ...]] = {}
        self.is_open = not rules.asks_keys
        """Everybody may do anything."""

    def address(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """Where a request comes from that the other end of a connection sent."""
        way = self._rules.way
        return way.address(peer, headers) if way.proxies else peer

    def is_plain(self, peer: str) -> bool:
        """Whether all requests of a connection come from its other end, which may come."""
        return not self._rules.way.is_proxy(peer) and self.lets_in(peer)

    def lets_in(self, address: str) -> bool:
        """Whether an address may come."""
        return allows(self._rules.way.networks, address)

    def check(self, request: Request, size_bytes: int) -> Request:
        """Let a request with a body of this size in, and note who sends it and who pays.

        Raises:
            DeniedError: its address may not come, or its URL opens nothing.
            RateError: its address, its key or its owner ask for too much.
            TooLargeError, UnsupportedTypeError, InvalidError: its URL is not for such a body.
        """
        self._rules.way.check(request.address)
        if request.path in UNMETERED:
            return request
        if request.query and wire.is_presigned(request.query):
            return self._check_signed(request, size_bytes)
        return self._charge(request, None if self.is_open else self._find(request))

    def _charge(self, request: Request, caller: Caller | None) -> Request:
        """Count a request; its bytes are charged to its bill as they are known."""
        meters = self.place(request.address).meters
        if caller is not None:
            meters += self.meters(caller)
        if not meters:
            return request if caller is None else request.found(None, caller)
        self._meters.take(meters, 0)
        return request.found(Bill(self._meters, meters), caller)

    def _check_signed(self, request: Request, size_bytes: int) -> Request:
        """Let a request in whose URL is signed; from here on it is one without all that.

        What is wrong with a signature is not told; but who has an old URL is guessing nothing.
        """
        self._check_failures(request)
        shown = wire.parse_presigned(request.method, request.path, request.query)
        caller, is_good = None, False
        if shown is not None and AUTHORIZATION not in request.headers:
            caller = self._keys.signer(shown.key_id, request.address, shown.is_signed)
            is_good = shown.is_current(self._clock.now_us()) and is_for_blob(request)
        request = self._charge(request, caller if is_good else None)
        if caller is None:
            self._fail(request)
        if shown is None or caller is None or not is_good:
            raise DeniedError("this URL opens nothing")
        return held(request, shown.wanted, size_bytes)._replace(query=shown.rest)

    def pay(self, meters: tuple[Meter, ...], sent_bytes: int) -> bool:
        """Take a request whose answer is known; False if it must not be given."""
        try:
            self._meters.take(meters, sent_bytes)
        except RateError:
            return False
        return True

    def enter(self, request: Request) -> Caller:
        """Who sends a request.

        Raises:
            UnauthenticatedError: it shows a key that opens nothing.
            RateError: its address has shown too many of those.
        """
        if request.caller is not None:
            return request.caller
        if self.is_open:
            return OPERATOR
        caller = self._find(request)
        if caller is None:
            self._fail(request)
            raise unauthenticated()
        return caller

    def token(self, request: Request) -> str:
        """The API key that a request shows.

        Raises:
            UnauthenticatedError: it shows none.
        """
        shown = request.headers.get(AUTHORIZATION)
        if shown is None:
            raise unauthenticated()
        return _token(shown)

    def standing(self, meter: Meter) -> Standing:
        """What is left of a meter."""
        return self._meters.standing(meter)

    def mark(self, path: bytes, headers: Mapping[bytes, bytes]) -> bytes:
        """A name for a path as this caller sees it."""
        shown = None if self.is_open else headers.get(AUTHORIZATION)
        return path if shown is None else b"%b %b" % (path, shown)

    def place(self, address: str) -> Place:
        """What is counted of an address."""
        found = self._places.get(address)
        if found is None:
            if len(self._places) >= limits.CALLERS_KEPT_MAX:
                self._places.clear()
            who, minute = account(address), self._rules.failures_minute
            failures = self._meters.of(FAILURES, who, Rates(minute / MINUTE_S, 0, MINUTE_S))
            meters = self._meters.of(ADDRESS, who, self._rules.address)
            found = self._places[address] = Place(meters, failures[0] if failures else None)
        return found

    def meters(self, caller: Caller) -> tuple[Meter, ...]:
        """What is counted of a caller: its key, and its owner."""
        found = self._of_callers.get(caller)
        if found is None:
            if len(self._of_callers) >= limits.CALLERS_KEPT_MAX:
                self._of_callers.clear()
            found = self._of_callers[caller] = self._make_meters(caller)
        return found

    def _make_meters(self, caller: Caller) -> tuple[Meter, ...]:
        """Who runs the store is held to what its key says alone."""
        key = caller.key
        if key is None or self.is_open:
            return ()
        usual = Rates(burst_s=self._rules.key.burst_s) if caller.is_operator else self._rules.key
        found = self._meters.of(KEY, key.id, key.rates.over(usual))
        if key.owner != NOBODY:
            rates = caller.owner_rates.over(self._rules.owner)
            found += self._meters.of(OWNER, key.owner, rates)
        return found

    def _find(self, request: Request) -> Caller | None:
        """Who shows a key, or shows none; None if the key opens nothing.

        Raises:
            RateError: its address has shown too many of those.
        """
        shown = request.headers.get(AUTHORIZATION)
        if shown is None:
            return NOBODY_KNOWN
        self._check_failures(request)
        return self._keys.caller(_token(shown), request.address)

    def _check_failures(self, request: Request) -> None:
        failures = self.place(request.address).failures
        if failures is not None:
            self._meters.check(failures)

    def _fail(self, request: Request) -> None:
        failures = self.place(request.address).failures
        if failures is not None:
            self._meters.fail(failures)


@lru_cache(maxsize=1024)
def _token(shown: bytes) -> str:
    """The key in the header; text that is none if there is none."""
    if shown.startswith(BEARER):
        return shown[len(BEARER) :].strip().decode("latin-1")
    scheme, _, rest = shown.partition(b" ")
    rest = rest.strip()
    if scheme.lower() == b"basic":
        try:
            rest = base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return ""
    elif scheme.lower() != b"bearer":
        return ""
    return rest.decode("latin-1")
