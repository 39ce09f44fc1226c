"""The faces: what each request means for the depot. Blocking, and the same for both ways in.

`read` answers downloads, `look` everything else that is read, `admit` uploads, `change` the rest.
Uploads and changes end by a callback, from the thread that ends the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast import wire
from holdfast.config.settings import Settings
from holdfast.core.access import OPERATOR, Caller, Scope
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, InvalidError, NotFoundError, UnavailableError
from holdfast.core.policy import NO_POLICY
from holdfast.core.seams import SystemEntropy
from holdfast.depot import events
from holdfast.depot.change import Place
from holdfast.depot.engine import LOOKS_MAX, open_blob
from holdfast.http import admin, allowance, feed, kept, many, metrics, route, service, transfer
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
from holdfast.http.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.core.pending import Pending
    from holdfast.core.store import Source, Span
    from holdfast.depot.content import ContentDepot
    from holdfast.depot.depot import Depot
    from holdfast.depot.names import Placed
    from holdfast.http.route import Target

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
        self.recent = Recent(depot.engine.kv, depot.engine.spot, self._policies)

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
            content = self._content(target)
            return _verified(content, request, download, inline=target.inline) if wait else None
        store = self.depot.engine.store

        def opener(span: Span | None) -> Source | None:
            try:
                return store.open(download.digest, span, wait=wait)
            except NotFoundError:
                raise _VanishedError from None

        return transfer.answer(request, download, opener, inline=target.inline, wait=wait)

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
        revision, changes = self.depot.engine.kv.revision(), self._policies.changes
        target = self._enter(request, route.detailed(target, request.query), Scope.READ)
        answer = self._read(request, target, wait=False)
        if answer is None or answer.digest is None or request.query:
            return answer
        if keep and target.is_steady:
            name = self.gate.mark(request.path, request.headers)
            self.recent.keep(name, target, answer, (revision, changes))
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
            return target._replace(bucket=bucket, is_steady=caller.is_steady, meters=meters)
        if target.route == route.SERVICE:
            caller.check_operator()
        else:
            caller.check_content(scope)
        owner = None if caller.is_operator else caller.owner
        return target._replace(owner=owner, is_steady=caller.is_steady, meters=meters)

    def _allow(self, caller: Caller, name: str, scope: Scope, *, of_now: bool = True) -> str:
        """Let a caller use a bucket; what is not of now is never public."""
        bucket = caller.bucket(name)
        if caller is not OPERATOR:
            caller.check(scope, bucket, self._policies.of(bucket).policy if of_now else NO_POLICY)
        return bucket

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
        entry = self._bucket(target.bucket).head(target.name, version=target.version)
        return transfer.Download(
            entry.digest,
            entry.size_bytes,
            entry.content_type,
            entry.modified_us // 1_000_000,
            entry.key.rpartition("/")[2],
            transfer.NO_CACHE,
            entry.metadata,
            lasts=entry.expires_us == 0,
        )

    def _hashed(self, target: Target) -> transfer.Download:
        digest = Digest.parse(target.name)
        held = self._content(target).held(digest)
        return transfer.Download(
            digest,
            held.size_bytes,
            held.content_type,
            held.since_us // 1_000_000,
            digest.file_name,
            transfer.IMMUTABLE if self.gate.is_open else transfer.PRIVATE,
            {},
        )

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
            upload = depot.upload(target.name, about, conditions(request), size_bytes)
            return Intake(upload, lambda placed: placed_answer(placed, request.path))
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
        return depot.begin(target.name, body, description(request), conditions(request))

    def stored_answer(self, stored: Pending[Placed], url: bytes) -> Answer:
        """Answer what `store` came to."""
        return ended_answer(stored, lambda placed: placed_answer(placed, url.partition(b"?")[0]))

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
            bucket = self._bucket(target.bucket)
            complete(lambda: bucket.remove(target.name, conditions(request)), removed_answer, done)
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


def _verified(
    content: ContentDepot, request: Request, download: transfer.Download, *, inline: bool
) -> Answer:
    """Answer HEAD of a hash, also with the time at which the blob was last verified."""
    at = content.verified_at(download.digest)
    answer = transfer.answer(request, download, _unopened, inline=inline, wait=True)
    assert answer is not None
    if at is not None:
        line = f"{wire.VERIFIED_AT.lower()}: {wire.format_moment(at)}\r\n"
        answer.head += line.encode()
    return answer


def _unopened(span: Span | None) -> Source | None:
    """HEAD opens nothing."""
    del span
    return None
