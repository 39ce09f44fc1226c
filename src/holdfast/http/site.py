"""The faces: what each request means for the depot. Blocking, and the same for both ways in.

`read` answers downloads, `look` everything else that is read, `admit` uploads, `change` the rest.
Uploads and changes end by a callback, from the thread that ends the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast import wire
from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, InvalidError, NotFoundError, UnavailableError
from holdfast.depot.change import Place
from holdfast.depot.engine import LOOKS_MAX, open_blob
from holdfast.http import many, metrics, openapi, route, transfer
from holdfast.http.counts import Counts, Tally
from holdfast.http.message import (
    Answer,
    Request,
    conditions,
    defect_answer,
    description,
    error_answer,
    json_answer,
)
from holdfast.http.processes import Team
from holdfast.http.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.pending import Pending
    from holdfast.core.store import Source, Span
    from holdfast.depot.content import Kept
    from holdfast.depot.depot import Depot
    from holdfast.depot.ingest import Upload
    from holdfast.depot.names import Placed
    from holdfast.http.route import Target

COPY = wire.COPY_FROM.lower().encode()
MOVE = wire.MOVE_FROM.lower().encode()
TEXT_HEAD = b"content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
WELCOME = b"""holdfast

PUT, GET, HEAD, DELETE  /blob/{key}           a name in the bucket `default`
                        /b/{bucket}/{key}     a name in another bucket
GET                     /blob?prefix=         a listing; also /b/{bucket}?prefix=
PUT, GET, HEAD, DELETE  /blobs/{sha256}       a blob by the hash of its bytes
GET                     /blobs                all hashes
POST                    /b/{bucket}, /blobs   many at once; also /blobs/missing
GET                     /openapi.json /metrics /healthz /readyz /stats
"""


class _VanishedError(Exception):
    """The bytes went between the look at the name and the opening."""


class Intake(NamedTuple):
    """An admitted upload; `answer` makes the answer of what it comes to."""

    upload: Upload[Any]
    answer: Callable[[Any], Answer]

    def finish(self, done: Callable[[Answer], None]) -> None:
        """Store and name what was written, then call `done` from some thread, exactly once."""
        complete(self.upload.finish, self.answer, done)


class Site:
    """A depot with its faces; safe from any thread."""

    def __init__(self, depot: Depot, team: Team | None = None) -> None:
        self.depot = depot
        self.team = team or Team(Tally())
        self.counts = Counts(self.team.tally, self.team.number)
        self.recent = Recent(depot.engine.kv, depot.engine.spot)

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
        inline = False
        if request.query:
            asked = route.parameters(target, request.query).get("disposition", "attachment")
            if asked not in {"attachment", "inline"}:
                raise InvalidError("disposition", asked[:100], "attachment or inline")
            inline = asked == "inline"
        for _ in range(LOOKS_MAX):
            try:
                return self._download(request, target, inline=inline, wait=wait)
            except _VanishedError:
                if not wait:
                    return None
                self._open(target).close()  # which knows whether the name is gone, too
        raise UnavailableError("the name changes too fast to be read")

    def _download(
        self, request: Request, target: Target, *, inline: bool, wait: bool
    ) -> Answer | None:
        download = self._named(target) if target.route == route.BLOB else self._hashed(target)
        if request.method == "HEAD" and target.route == route.HASH:
            return self._verified(request, download, inline=inline) if wait else None
        store = self.depot.engine.store

        def opener(span: Span | None) -> Source | None:
            try:
                return store.open(download.digest, span, wait=wait)
            except NotFoundError:
                raise _VanishedError from None

        return transfer.answer(request, download, opener, inline=inline, wait=wait)

    def _open(self, target: Target) -> Source:
        """Open what a path names.

        Raises:
            NotFoundError: it names nothing any more.
            CorruptError: its bytes are missing.
        """
        if target.route == route.BLOB:
            return self._bucket(target.bucket).source(target.name)[1]
        return self.depot.content.source(Digest.parse(target.name))

    def _verified(self, request: Request, download: transfer.Download, *, inline: bool) -> Answer:
        """Answer HEAD of a hash, also with the time at which the blob was last verified."""
        at = self.depot.content.verified_at(download.digest)
        answer = transfer.answer(request, download, _unopened, inline=inline, wait=True)
        assert answer is not None
        if at is not None:
            line = f"{wire.VERIFIED_AT.lower()}: {wire.format_moment(at)}\r\n"
            answer.head += line.encode()
        return answer

    def read_now(self, request: Request, target: Target, *, keep: bool) -> Answer | None:
        """Answer as `read` without waiting; `keep` a plain answer that may be asked for again."""
        revision = self.depot.engine.kv.revision()
        answer = self.read(request, target, wait=False)
        if keep and answer is not None and answer.digest is not None and not request.query:
            self.recent.keep(request.path, target, answer, revision)
        return answer

    def look(self, request: Request, target: Target) -> Answer:
        """Answer GET or HEAD of anything but a blob.

        Raises:
            BlobError: as the request or the store has it.
        """
        asked = route.parameters(target, request.query)
        if target.route == route.METADATA:
            entry = self._bucket(target.bucket).head(target.name)
            return json_answer(200, wire.entry_json(entry))
        if target.route == route.LISTING:
            return self._listing(target, asked)
        if target.route == route.HASHES:
            page = self.depot.content.list(cursor=asked.get("cursor"), limit=_limit(asked))
            return json_answer(200, wire.hash_page_json(page))
        return self._service(target.name)

    def _named(self, target: Target) -> transfer.Download:
        entry = self._bucket(target.bucket).head(target.name)
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
        held = self.depot.content.held(digest)
        return transfer.Download(
            digest,
            held.size_bytes,
            held.content_type,
            held.since_us // 1_000_000,
            digest.file_name,
            transfer.IMMUTABLE,
            {},
        )

    def _listing(self, target: Target, asked: dict[str, str]) -> Answer:
        page = self._bucket(target.bucket).list(
            prefix=asked.get("prefix", ""),
            delimiter=asked.get("delimiter", ""),
            cursor=asked.get("cursor"),
            limit=_limit(asked),
        )
        return json_answer(200, wire.page_json(page))

    def _service(self, path: str) -> Answer:
        if path == "/stats":
            return json_answer(200, wire.stats_json(self.depot.stats()))
        if path == "/readyz" and not self.depot.engine.facts()["healthy"]:
            raise UnavailableError("the store takes no writes")
        if path == "/metrics":
            self.report()
            body = metrics.text(self.team, self.depot)
            return Answer(200, b"content-type: %b\r\n" % metrics.CONTENT_TYPE, body)
        if path == "/openapi.json":
            return json_answer(200, openapi.document())
        return Answer(200, TEXT_HEAD, WELCOME if path == "/" else b"ok\n")

    def many(self, request: Request, target: Target, body: bytes) -> Answer:
        """Answer a POST that is about many things.

        Raises:
            BlobError: the request is none.
        """
        return many.answer(self.depot, request, target, body)

    # Writing

    def admit(self, request: Request, target: Target, size_bytes: int) -> Intake | Answer:
        """Admit an upload before its body, or answer it at once; `size_bytes` is 0 if unknown.

        Raises:
            BlobError: refused.
        """
        route.parameters(target, request.query)
        about = description(request)
        if target.route == route.BLOB:
            depot = self._bucket(target.bucket)
            upload = depot.upload(target.name, about, conditions(request), size_bytes)
            return Intake(upload, lambda placed: _placed(placed, request.path))
        digest = Digest.parse(target.name)
        if about.digest not in (None, digest):
            raise InvalidError("digest headers", str(about.digest), "the hash in the path")
        if self.depot.content.holds(digest) and self._is_readable(digest):
            return kept_answer(digest, is_new=False)
        content = self.depot.content
        return Intake(content.upload(digest, about.content_type, size_bytes), _kept)

    def store(self, request: Request, target: Target, body: bytes) -> Pending[Placed]:
        """Begin to store a small body under a key, all at once.

        Raises:
            BlobError: refused.
        """
        route.parameters(target, request.query)
        depot = self._bucket(target.bucket)
        return depot.begin(target.name, body, description(request), conditions(request))

    def stored_answer(self, stored: Pending[Placed], url: bytes) -> Answer:
        """Answer what `store` came to."""
        return _ended_answer(stored, lambda placed: _placed(placed, url.partition(b"?")[0]))

    def _is_readable(self, digest: Digest) -> bool:
        """Whether a held blob can still be opened; a damaged one is welcome again."""
        try:
            open_blob(self.depot.engine.store, digest, None).close()
        except BlobError:
            return False
        return True

    def change(self, request: Request, target: Target, done: Callable[[Answer], None]) -> None:
        """Delete, copy or move, then call `done` from some thread, exactly once.

        Raises:
            BlobError: refused at once.
        """
        route.parameters(target, request.query)
        if request.method != "DELETE":
            self._transfer(request, target, done)
        elif target.route == route.BLOB:
            bucket = self._bucket(target.bucket)
            complete(lambda: bucket.remove(target.name, conditions(request)), _removed, done)
        else:
            digest = Digest.parse(target.name)
            complete(lambda: self.depot.content.release(digest), _removed, done)

    def _transfer(self, request: Request, target: Target, done: Callable[[Answer], None]) -> None:
        move = MOVE in request.headers
        header = request.headers[MOVE if move else COPY]
        bucket, _, key = header.partition(b"/")
        source = self._bucket(route.decode(bucket, "bucket"))
        name = route.decode(key, "key")
        place = Place(target.bucket, target.name)
        when = conditions(request)
        complete(
            lambda: source.transfer(name, place, when, move=move),
            lambda placed: _placed(placed, request.path),
            done,
        )

    def _bucket(self, name: str) -> Depot:
        return self.depot if name == self.depot.name else self.depot.bucket(name)


def _unopened(span: Span | None) -> Source | None:
    """HEAD opens nothing."""
    del span
    return None


def complete(
    begin: Callable[[], Pending[Any]],
    make: Callable[[Any], Answer],
    done: Callable[[Answer], None],
) -> None:
    """Begin something and call `done` with its answer, or that of its error, exactly once."""
    try:
        future = begin()
    except BlobError as error:
        done(error_answer(error))
        return
    except Exception as error:  # noqa: BLE001 - the client waits for an answer
        done(defect_answer(error, "site"))
        return

    future.add_done_callback(lambda ended: done(_ended_answer(ended, make)))


def _ended_answer(ended: Pending[Any], make: Callable[[Any], Answer]) -> Answer:
    error = ended.exception()
    if error is None:
        return make(ended.result())
    return error_answer(error) if isinstance(error, BlobError) else defect_answer(error, "commit")


def is_transfer(request: Request) -> bool:
    """Whether a PUT copies or moves instead of bringing bytes."""
    return COPY in request.headers or MOVE in request.headers


def kept_answer(digest: Digest, *, is_new: bool) -> Answer:
    """Answer a PUT on the content face."""
    body = b'{"hash":"%b"}' % str(digest).encode()
    head = b'etag: "%b"\r\n' % digest.hex().encode()
    return json_answer(201 if is_new else 200, body, head)


def _kept(kept: Kept) -> Answer:
    return kept_answer(kept.ref.digest, is_new=kept.is_new)


def _placed(placed: Placed, path: bytes) -> Answer:
    entry = placed.entry
    head = b"etag: %b\r\nlocation: %b\r\n" % (entry.etag.encode(), path)
    return json_answer(201 if placed.is_new else 200, wire.entry_json(entry), head)


def _removed(result: object) -> Answer:
    del result
    return Answer(204, b"", length=-1)


def _limit(asked: dict[str, str]) -> int:
    text = asked.get("limit", str(limits.LIST_LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise InvalidError("limit", text[:100], f"1 to {limits.LIST_LIMIT_MAX}")
    return int(text)
