"""The admin face: owners, API keys and policies as JSON (docs/http.md, "Admin").

Who runs the store may do all of it; a key with the scope `admin` of an owner may look after the
owner's own keys and policies. Everything may be sent twice: what is there already stays as it is,
and only a new key is new each time. What was done is kept in the trail by the
commit that did it, and told as an event, without secrets; what was refused is kept, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast import wire
from holdfast.core import limits
from holdfast.core.access import ApiKey, Caller
from holdfast.core.entry import moment
from holdfast.core.errors import BlobError, DeniedError, MethodError, NotFoundError
from holdfast.core.policy import Owner, Policy, check_owner, owner_of
from holdfast.http import members, presigned
from holdfast.http.deeds import Clerk, refuse
from holdfast.http.hooks import HookCall
from holdfast.http.members import plain, read
from holdfast.http.message import Answer
from holdfast.http.route import PRESIGN, decode, parameters
from holdfast.services.marks import Nameless, nameless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.depot.engine import Engine
    from holdfast.depot.trail import Deed
    from holdfast.http.gate import Gate
    from holdfast.http.hooks import Pings
    from holdfast.http.message import Request
    from holdfast.http.route import Target

LIST_PARTS, ONE_PARTS = 1, 2  # of a path below /admin


class Desk:
    """The admin face of a store, and who signs URLs there; safe from any thread."""

    def __init__(self, engine: Engine, gate: Gate, pings: Pings) -> None:
        self._engine = engine
        self._gate = gate
        self._pings = pings

    def answer(self, request: Request, target: Target, body: bytes) -> Answer:
        """Do what a request asks for.

        Raises:
            BlobError: refused.
        """
        if target.route == PRESIGN:
            parameters(target, request.query)
            return presigned.answer(self._engine, self._gate, request, body)
        caller: Caller | None = None
        try:
            asked = parameters(target, request.query)
            caller = self._gate.enter(request)
            call = Call(self._engine, caller, request, body)
            return call.answer(target.name.encode("latin-1"), asked, self._pings)
        except BlobError as error:
            refuse(self._engine.trail, request, caller, error)
            raise


class Call:
    """One request to the admin face."""

    def __init__(self, engine: Engine, caller: Caller, request: Request, body: bytes) -> None:
        self._engine = engine
        self._policies = engine.names.policies
        self._caller = caller
        self._method = request.method
        self._clerk = Clerk(engine.trail, caller, request.address)
        self._body = body

    def answer(self, path: bytes, asked: dict[str, str], pings: Pings) -> Answer:
        """Do what is asked for below /admin.

        Raises:
            BlobError: refused.
        """
        parts = [decode(part, "path") for part in path.split(b"/")]
        kind, name = parts[0], parts[1] if len(parts) > 1 else ""
        verbs: Mapping[str, Callable[[], Answer]] = {}
        if kind == "webhooks":
            hooks = HookCall(self._engine.webhooks, pings, self._caller, self._body)
            verbs = hooks.verbs(parts[1:], asked, self._clerk)
        elif len(parts) == LIST_PARTS:
            verbs = self._of_all(kind, asked)
        elif len(parts) == ONE_PARTS:
            verbs = self._of_one(kind, name)
        elif (kind, *parts[2:]) == ("keys", "rotate"):
            verbs = {"POST": lambda: self._rotate(name)}
        if not verbs:
            raise NotFoundError("no such route", path=path[:100].decode("latin-1"))
        method = "GET" if self._method == "HEAD" else self._method
        if method not in verbs:
            raise MethodError(", ".join(verbs))
        return verbs[method]()

    def _of_all(self, kind: str, asked: dict[str, str]) -> Mapping[str, Callable[[], Answer]]:
        if kind == "owners":
            return {"GET": lambda: self._owners(asked)}
        if kind == "audit":
            return {"GET": lambda: self._audit(asked)}
        if kind == "keys":
            return {"GET": lambda: self._keys(asked), "POST": self._create_key}
        if kind == "policies":
            return {"GET": lambda: self._every_policy(asked)}
        if kind == "nameless":
            return {"GET": lambda: self._nameless(asked)}
        return {}

    def _of_one(self, kind: str, name: str) -> Mapping[str, Callable[[], Answer]]:
        if kind == "owners":
            check_owner(name)
            return {
                "GET": lambda: self._owner(name),
                "PUT": lambda: self._set_owner(name),
                "DELETE": lambda: self._remove_owner(name),
            }
        if kind == "keys":
            return {
                "GET": lambda: self._one(self._own_key(name)),
                "DELETE": lambda: self._revoke(name),
            }
        if kind == "policies":
            return {
                "GET": lambda: self._policy(self._own_bucket(name)),
                "PUT": lambda: self._set_policy(self._own_bucket(name)),
                "DELETE": lambda: self._set_policy(self._own_bucket(name), Policy()),
            }
        return {}

    # Owners

    def _owners(self, asked: dict[str, str]) -> Answer:
        self._caller.check_operator()
        return members.page("owners", self._policies.owners, asked, lambda owner: owner.name)

    def _owner(self, name: str) -> Answer:
        if self._caller.owner != name:
            self._caller.check_operator()
        owner = self._policies.owner(name)
        if owner is None:
            raise NotFoundError("no such owner", owner=name)
        used = self._policies.owner_used(name)
        return members.answer(200, {**plain(owner), "used": used._asdict()})

    def _set_owner(self, name: str) -> Answer:
        self._caller.check_operator()
        wanted = read(Owner, self._body, {"name": name})
        deed = self._clerk.deed("owner.set", owner=name)
        is_new, owner = self._policies.set_owner(wanted, also=self._clerk.writes(deed))
        self._clerk.tell(deed)
        return members.answer(201 if is_new else 200, plain(owner))

    def _remove_owner(self, name: str) -> Answer:
        self._caller.check_operator()
        deed = self._clerk.deed("owner.remove", owner=name)
        if self._policies.remove_owner(name, also=self._clerk.writes(deed)):
            self._clerk.tell(deed)
        return Answer(204, b"", length=-1)

    # Keys

    def _keys(self, asked: dict[str, str]) -> Answer:
        self._caller.check_admin()
        keys = self._engine.keys
        owner = None if self._caller.is_operator else self._caller.owner
        return members.page("keys", lambda after, n: keys.list(after, n, owner), asked, _key_id)

    def _create_key(self) -> Answer:
        self._caller.check_admin()
        given: dict[str, Any] = {"id": ""}
        if not self._caller.is_operator:
            given["owner"] = self._caller.owner
        wanted = read(ApiKey, self._body, given)
        self._check_no_more(self._own_key(wanted.alias_of) if wanted.alias_of else wanted)
        token, key = self._engine.keys.create(
            wanted, also=lambda key: self._clerk.writes(self._of_key("key.create", key))
        )
        self._clerk.tell(self._of_key("key.create", key))
        return members.answer(201, {**plain(key), "key": token})

    def _check_no_more(self, wanted: ApiKey) -> None:
        """See that nobody is given a key that may more than the own one."""
        own = self._caller.key
        assert own is not None
        if not self._caller.is_operator and not own.covers(wanted):
            raise DeniedError("the new key would open more than yours, or for longer, or faster")

    def _own_key(self, key_id: str) -> ApiKey:
        """Find a key that the caller looks after; others look as if they were not there."""
        self._caller.check_admin()
        key = self._engine.keys.get(key_id)
        if not self._caller.is_operator and key.owner != self._caller.owner:
            raise NotFoundError("no such API key", id=key_id[:100])
        return key

    def _revoke(self, key_id: str) -> Answer:
        try:
            deed = self._of_key("key.revoke", self._own_key(key_id))
        except NotFoundError:
            return Answer(204, b"", length=-1)
        if self._engine.keys.revoke(key_id, also=self._clerk.writes(deed)):
            self._clerk.tell(deed)
        return Answer(204, b"", length=-1)

    def _rotate(self, key_id: str) -> Answer:
        key = self._own_key(key_id)
        self._check_no_more(key)
        deed = self._of_key("key.rotate", key)
        token = self._engine.keys.rotate(key_id, also=self._clerk.writes(deed))
        self._clerk.tell(deed)
        return members.answer(200, {**plain(key), "key": token})

    # Policies

    def _every_policy(self, asked: dict[str, str]) -> Answer:
        self._caller.check_admin()
        owner = None if self._caller.is_operator else self._caller.owner
        own = sorted(self._caller.bucket(name) for name in self._caller.buckets if owner)

        def more(after: str, limit: int) -> list[str]:
            if own:
                return [name for name in own if name > after][:limit]
            return self._policies.buckets(after, limit, owner)

        return members.page("policies", more, asked, str, self._described)

    def _policy(self, bucket: str) -> Answer:
        return members.answer(200, self._described(bucket))

    def _described(self, bucket: str) -> dict[str, Any]:
        used = self._policies.used(bucket)
        policy = plain(self._policies.policy(bucket))
        return {"bucket": bucket, **policy, "used": used._asdict()}

    def _set_policy(self, bucket: str, policy: Policy | None = None) -> Answer:
        wanted = read(Policy, self._body, {}) if policy is None else policy
        deed = self._clerk.deed("policy.set", bucket=bucket)
        self._policies.set_policy(bucket, wanted, also=self._clerk.writes(deed))
        self._clerk.tell(deed)
        return self._policy(bucket)

    def _own_bucket(self, name: str) -> str:
        self._caller.check_admin()
        bucket = self._caller.bucket(name)
        if not self._caller.is_operator and owner_of(bucket) != self._caller.owner:
            raise DeniedError("this bucket is not yours", bucket=bucket)
        key = self._caller.key
        assert key is not None
        if key.buckets and bucket.rpartition("~")[2] not in key.buckets:
            raise DeniedError("the key is for other buckets", bucket=bucket)
        return bucket

    def _nameless(self, asked: dict[str, str]) -> Answer:
        self._caller.check_operator()

        def more(after: str, limit: int) -> list[Nameless]:
            return nameless(self._engine, after, limit)

        return members.page("blobs", more, asked, lambda one: str(one.digest), _without_name)

    # Shared

    def _one(self, value: object) -> Answer:
        return members.answer(200, plain(value))

    def _of_key(self, action: str, key: ApiKey) -> Deed:
        return self._clerk.deed(action, id=key.id, owner=key.owner)

    def _audit(self, asked: dict[str, str]) -> Answer:
        """What was done and refused; an owner's keys see what concerns the owner."""
        self._caller.check_admin()
        owner = None if self._caller.is_operator else self._caller.owner
        cursor = asked.get("cursor", "")
        page = self._engine.trail.page(cursor, limits.LIST_LIMIT_DEFAULT, owner)
        return members.answer(200, {"deeds": list(map(plain, page.deeds)), "next": page.next})


def _key_id(key: ApiKey) -> str:
    return key.id


def _without_name(blob: Nameless) -> dict[str, Any]:
    since_at = wire.format_moment(moment(blob.since_us))
    return {"digest": str(blob.digest), "size_bytes": blob.size_bytes, "since_at": since_at}
