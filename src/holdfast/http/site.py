"""The faces: what each request means for the depot. Blocking, and the same for both ways in.

`read` answers downloads, `look` everything else that is read, `admit` uploads, `change` the rest.
Uploads and changes end by a callback, from the thread that ends the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast import wire
from holdfast.config.settings import Settings
from holdfast.core.access import Caller, Scope
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, InvalidError, NotFoundError, UnavailableError
from holdfast.core.policy import NO_POLICY
from holdfast.core.seams import SystemEntropy
from holdfast.depot import events
from holdfast.depot.change import Place
from holdfast.depot.engine import LOOKS_MAX, open_blob
from holdfast.http import admin, allowance, feed, kept, many, metrics, route, service, transfer
from holdfast.http.coding import Codings
from holdfast.http.counts import Counts, Tally
from holdfast.http.dial import dialing
from holdfast.http.gate import Gate, rules
from holdfast.http.hooks import Pings
from holdfast.http.message import Answer, Request, conditions, description, json_answer
from holdfast.http.meters import Meters
from holdfast.http.outcome import (
    COPY,
    MOVE,
    Intake,
    complete,
    ended_answer,
    kept_answer,
    newly_kept,
    placed_answer,
    removed_answer,
)
from holdfast.http.processes import Team
from holdfast.http.queue import Queue, deferred, row_of, wants_end
from holdfast.http.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.core.pending import Pending
    from holdfast.core.store import Source, Span
    from holdfast.depot.content import ContentDepot
    from holdfast.depot.depot import Depot
    from holdfast.depot.names import Placed
    from holdfast.http.route import Target
    from holdfast.services.moving import Progress

DEFAULTS = Settings()
SCOPES = {
    route.LISTING: Scope.LIST,
    route.HASHES: Scope.LIST,
    route.DELETED: Scope.LIST,
}
"""What a key needs for reading what is no blob; else READ."""


class _VanishedError(Exception):
    """The bytes went between the look at the name and the opening."""


class Site:
    """A depot with its faces; safe from any thread."""

    def __init__(
        self, depot: Depot, team: Team | None = None, settings: Settings = DEFAULTS
    ) -> None:
        clock = depot.engine.names.clock
        self.depot = depot
        self.team = team or Team(Tally())
        meters = self.team.meters or Meters(clock, SystemEntropy())
        self.gate = Gate(depot.engine.keys, clock, meters, rules(settings))
        self.desk = admin.Desk(depot.engine, self.gate, Pings(dialing(settings, clock), clock))
        self._policies = depot.engine.names.policies
        self.counts = Counts(self.team.tally, self.team.number)
        self.queue = Queue(settings.async_writes_max if settings.async_write else 0)
        self._codings = Codings(depot.engine.zstd, settings.output_compression)
        self.mark = self._codings.marking(self.gate.mark)
        self.move: Progress | None = None
        """How far a move of the store is, if there is one."""
        self.recent = Recent(depot.engine.kv, depot.engine.spot, self._policies, self.queue)

    def begin(self) -> None:
        """Say that requests are taken."""
        self.report()
        self.counts.begin()

    def report(self) -> None:
        """Let other workers know what only this one counts; safe from any thread."""
        facts = self.depot.engine.facts()
        counted = {name: facts[name] for name in metrics.LOG_COUNTERS}
        self.counts.report(counted, healthy=bool(facts["healthy"]))

    # Reading

    def read(self, request: Request, target: Target, *, wait: bool) -> Answer | None:
        """Answer GET or HEAD of a blob; None when that needs a disk and `wait` is False.

        Raises:
            BlobError: as the request or the store has it.
        """
        target = self._enter(request, route.detailed(target, request.query), Scope.READ)
        return self._read(request, target, wait=wait)

    def _read(self, request: Request, target: Target, *, wait: bool) -> Answer | None:
        if self.queue.writes and not self._settle(target, wait=wait):
            return None
        for _ in range(LOOKS_MAX):
            try:
                return self._download(request, target, wait=wait)
            except _VanishedError:
                if not wait:
                    return None
                self._open(target).close()  # which knows whether the name is gone, too
        raise UnavailableError("the name changes too fast to be read")

    def _download(self, request: Request, target: Target, *, wait: bool) -> Answer | None:
        download = self._named(target) if target.route == route.BLOB else self._hashed(target)
        if request.method == "HEAD" and target.route == route.HASH:
            at = self._content(target).verified_at(download.digest) if wait else None
            return transfer.describe(request, download, at, inline=target.inline) if wait else None
        store = self.depot.engine.store

        def opener(span: Span | None) -> Source | None:
            try:
                return store.open(download.digest, span, wait=wait)
            except NotFoundError:
                raise _VanishedError from None

        return self._codings.answer(request, download, opener, inline=target.inline, wait=wait)

    def _settle(self, target: Target, *, wait: bool = True) -> bool:
        """Wait for the writes before this one that it has to see; False if it may not `wait`."""
        is_one = target.route in {route.BLOB, route.METADATA}
        row = row_of(Place(target.bucket, target.name)) if is_one else b""
        if self.queue.holds(row):
            if not wait:
                return False
            self.queue.settle(row)
        return True

    def _open(self, target: Target) -> Source:
        """Open what a path names.

        Raises:
            NotFoundError: it names nothing any more.
            CorruptError: its bytes are missing.
        """
        if target.route == route.BLOB:
            return self._bucket(target.bucket).source(target.name, version=target.version)[1]
        return self._content(target).source(Digest.parse(target.name))

    def read_now(self, request: Request, target: Target, *, keep: bool) -> Answer | None:
        """Answer as `read` without waiting; `keep` a plain answer that may be asked for again."""
        at = self.depot.engine.kv.revision(), self._policies.changes
        target = self._enter(request, route.detailed(target, request.query), Scope.READ)
        answer = self._read(request, target, wait=False)
        if answer is None or answer.digest is None or request.query:
            return answer
        if keep and target.is_steady:
            self.recent.keep(self.mark(request.path, request.headers), target, answer, at)
        return answer

    def _enter(self, request: Request, target: Target, scope: Scope) -> Target:
        """Let the caller in, and say whose the target is.

        Raises:
            UnauthenticatedError, DeniedError, NotFoundError: it may not.
            InvalidError: the bucket is none.
        """
        if target.route == route.SERVICE and target.name not in route.GUARDED:
            return target
        caller = self.gate.enter(request)
        meters = self.gate.meters(caller)
        if target.bucket:
            bucket = self._allow(caller, target.bucket, scope, of_now=target.is_of_now)
            return target.of(bucket, None, meters, is_steady=caller.is_steady)
        if target.route == route.SERVICE:
            caller.check_operator()
        else:
            caller.check_content(scope)
        owner = None if caller.is_operator else caller.owner
        return target.of("", owner, meters, is_steady=caller.is_steady)

    def _allow(self, caller: Caller, name: str, scope: Scope, *, of_now: bool = True) -> str:
        """Let a caller use a bucket; what is not of now is never public."""
        found = caller.own(name, scope)
        if found is None:
            found = caller.bucket(name)
            caller.check(scope, found, self._policies.of(found).policy if of_now else NO_POLICY)
        return found

    def look(self, request: Request, target: Target) -> Answer:
        """Answer GET or HEAD of anything but a blob.

        Raises:
            BlobError: as the request or the store has it.
        """
        asked = route.parameters(target, request.query)
        if target.route == route.EVENTS:
            unknown = request._replace(caller=None)  # for whoever hears much may be long gone
            return feed.answer(self.depot, request, asked, lambda: self._listen(unknown, asked))
        if target.route == route.LIMITS:
            return allowance.answer(self.depot.engine, self.gate, request, asked)
        version = route.number(asked, "version", "the number of a version")
        target = target._replace(version=version)
        target = self._enter(request, target, SCOPES.get(target.route, Scope.READ))
        return self._show(target, asked)

    def _show(self, target: Target, asked: dict[str, str]) -> Answer:
        """Answer somebody who may know."""
        if target.route != route.SERVICE:
            self._settle(target)
        if target.route == route.METADATA:
            entry = self._bucket(target.bucket).head(target.name, version=target.version)
            return json_answer(200, wire.entry_json(entry))
        if target.route == route.LISTING:
            return self._listing(target, asked)
        if target.route == route.HASHES:
            page = self._content(target).list(cursor=asked.get("cursor"), limit=route.limit(asked))
            return json_answer(200, wire.hash_page_json(page))
        if target.route in {route.DELETED, route.VERSIONS}:
            return kept.look(self._bucket(target.bucket), target, asked)
        return service.answer(target.name, self)

    def _named(self, target: Target) -> transfer.Download:
        return transfer.of_name(
            self._bucket(target.bucket).head(target.name, version=target.version)
        )

    def _hashed(self, target: Target) -> transfer.Download:
        digest = Digest.parse(target.name)
        held = self._content(target).held(digest)
        return transfer.of_hash(digest, held, is_public=self.gate.is_open)

    def _listen(self, request: Request, asked: Mapping[str, str]) -> events.Scope:
        """Let a caller hear of a bucket, or of all that it may list."""
        caller, prefix = self.gate.enter(request), asked.get("prefix", "")
        name = asked.get("bucket")
        if name is not None:
            self._allow(caller, name, Scope.READ)
            return events.Scope(self._allow(caller, name, Scope.LIST), prefix)
        for scope in (Scope.READ, Scope.LIST):
            caller.check_own(scope)
        if caller.is_operator:
            return events.Scope(None, prefix)
        return events.Scope(None, prefix, owner=caller.owner, names=caller.buckets)

    def _listing(self, target: Target, asked: dict[str, str]) -> Answer:
        page = self._bucket(target.bucket).list(
            prefix=asked.get("prefix", ""),
            delimiter=asked.get("delimiter", ""),
            cursor=asked.get("cursor"),
            limit=route.limit(asked),
        )
        return json_answer(200, wire.page_json(page))

    def many(self, request: Request, target: Target, body: bytes) -> Answer:
        """Answer a POST that is about many things.

        Raises:
            BlobError: the request is none.
        """

        def bucket(scope: Scope) -> Depot:
            self._settle(target)
            return self._bucket(self._enter(request, target, scope).bucket)

        def content(scope: Scope) -> ContentDepot:
            return self._content(self._enter(request, target, scope))

        return many.answer(many.Doors(bucket, content), request, target, body)

    # Writing

    def admit(self, request: Request, target: Target, size_bytes: int) -> Intake | Answer:
        """Admit an upload before its body, or answer it at once; `size_bytes` is 0 if unknown.

        Raises:
            BlobError: refused.
        """
        route.parameters(target, request.query)
        target = self._enter(request, target, Scope.WRITE)
        about = description(request)
        if target.route == route.BLOB:
            depot = self._bucket(target.bucket)
            place, when = Place(target.bucket, target.name), conditions(request)
            queue = self._queue_for(request, size_bytes)
            is_known = not self.queue.holds(row_of(place))
            upload = depot.upload(target.name, about, when, size_bytes, is_known=is_known)
            return Intake(upload, lambda placed: placed_answer(placed, request.path), place, queue)
        digest = Digest.parse(target.name)
        if about.digest not in (None, digest):
            raise InvalidError("digest headers", str(about.digest), "the hash in the path")
        content = self._content(target)
        if content.holds(digest) and self._is_readable(digest):
            return kept_answer(digest, is_new=False)
        return Intake(content.upload(digest, about.content_type, size_bytes), newly_kept)

    def store(self, request: Request, target: Target, body: bytes) -> Pending[Placed]:
        """Begin to store a small body under a key, all at once.

        Raises:
            BlobError: refused.
        """
        route.parameters(target, request.query)
        depot = self._bucket(self._enter(request, target, Scope.WRITE).bucket)
        when = conditions(request)
        queue = self._queue_for(request, len(body))
        stored = depot.begin(target.name, body, description(request), when)
        return deferred(queue, Place(depot.name, target.name), len(body), stored)

    def stored_answer(self, stored: Pending[Placed], url: bytes) -> Answer:
        """Answer what `store` came to."""
        return ended_answer(stored, lambda placed: placed_answer(placed, url.partition(b"?")[0]))

    def _queue_for(self, request: Request, size_bytes: int) -> Queue | None:
        """Where a write goes that nobody waits for; None for others.

        Raises:
            UnavailableError: no more can be queued.
        """
        if not self.queue.is_on or wants_end(request):
            return None
        self.queue.check(size_bytes)
        return self.queue

    def _is_readable(self, digest: Digest) -> bool:
        """Whether a held blob can still be opened; a damaged one is welcome again."""
        try:
            open_blob(self.depot.engine.store, digest, None).close()
        except BlobError:
            return False
        return True

    def revive(self, request: Request, target: Target) -> Answer:
        """Bring something back that was deleted or replaced, and answer when that is durable.

        Raises:
            BlobError: refused.
        """
        asked = route.parameters(target, request.query)
        self._settle(target)
        if "digest" in asked:
            self.gate.enter(request).check_operator()
        self._enter(request, target, Scope.WRITE)
        target = self._enter(request, target, Scope.READ)
        return kept.revive(self._bucket(target.bucket), request, target, asked)

    def change(self, request: Request, target: Target, done: Callable[[Answer], None]) -> None:
        """Delete, copy or move, then call `done` from some thread, exactly once.

        Raises:
            BlobError: refused at once.
        """
        route.parameters(target, request.query)
        if request.method != "DELETE":
            self._transfer(request, self._enter(request, target, Scope.WRITE), done)
            return
        target = self._enter(request, target, Scope.DELETE)
        if target.route == route.BLOB:
            bucket, when = self._bucket(target.bucket), conditions(request)
            place, queue = Place(target.bucket, target.name), self._queue_for(request, 0)
            complete(
                lambda: deferred(queue, place, 0, bucket.remove(target.name, when)),
                removed_answer,
                done,
            )
        else:
            digest = Digest.parse(target.name)
            complete(lambda: self._content(target).release(digest), removed_answer, done)

    def _transfer(self, request: Request, target: Target, done: Callable[[Answer], None]) -> None:
        move = MOVE in request.headers
        header = request.headers[MOVE if move else COPY]
        bucket, _, key = header.partition(b"/")
        caller, whole = self.gate.enter(request), route.decode(bucket, "bucket")
        for scope in (Scope.READ, Scope.DELETE) if move else (Scope.READ,):
            self._allow(caller, whole, scope)
        source = self._bucket(caller.bucket(whole))
        name = route.decode(key, "key")
        place = Place(target.bucket, target.name)
        when = conditions(request)
        complete(
            lambda: source.transfer(name, place, when, move=move),
            lambda placed: placed_answer(placed, request.path),
            done,
        )

    def _bucket(self, name: str) -> Depot:
        return self.depot if name == self.depot.name else self.depot.bucket(name)

    def _content(self, target: Target) -> ContentDepot:
        return self.depot.content_of(target.owner)
