"""One tree of errors; each class carries its HTTP status, its code and whether a retry helps.

HTTP answers, the command line's exit codes, the client's exceptions and docs/errors.md all come
from this table. Errors carry facts as attributes; their text is for people and may change.
Wrong programs raise AssertionError or TypeError; the wrong world raises BlobError.
"""

from collections.abc import Mapping
from typing import ClassVar

Fact = str | int | float | None


class BlobError(Exception):
    """Base of all; never raised itself."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **facts: Fact) -> None:
        super().__init__(message)
        self.message = message
        self.facts: Mapping[str, Fact] = facts


class NotFoundError(BlobError, LookupError):
    """No such blob, key, bucket or route."""

    status = 404
    code = "not_found"


class GoneError(BlobError, LookupError):
    """It was there, and is not kept any more."""

    status = 410
    code = "gone"


class InvalidError(BlobError, ValueError):
    """A malformed key, digest, header or setting: the caller's fault."""

    status = 400
    code = "invalid"

    def __init__(self, what: str, got: Fact, allowed: str) -> None:
        super().__init__(f"{what}: {allowed}; got {got!r}", what=what, got=got, allowed=allowed)


class UnsatisfiableError(BlobError, ValueError):
    """The asked range lies outside the blob."""

    status = 416
    code = "unsatisfiable_range"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"the blob has {size_bytes} bytes", size_bytes=size_bytes)
        self.size_bytes = size_bytes


class DigestMismatchError(BlobError):
    """The sent bytes are not what was promised: the caller's fault."""

    status = 422
    code = "digest_mismatch"

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"expected {expected}, got {actual}", expected=expected, actual=actual)
        self.expected = expected
        self.actual = actual


class CorruptError(BlobError):
    """Stored bytes are not what was promised: our fault; another copy may be good."""

    code = "corrupt"


class PreconditionError(BlobError):
    """If-Match, If-None-Match, If-Unmodified-Since or create-only did not hold."""

    status = 412
    code = "precondition_failed"


class ConflictError(BlobError):
    """What is there stands in the way; it must go, or be named otherwise, first."""

    status = 409
    code = "conflict"


class TooLargeError(BlobError):
    """Over a limit."""

    status = 413
    code = "too_large"

    def __init__(self, what: str, limit: int, unit: str = "bytes") -> None:
        super().__init__(f"{what}: at most {limit} {unit}", what=what, limit=limit, unit=unit)
        self.limit = limit
        self.unit = unit


class HeadTooLargeError(TooLargeError):
    """The head of a request is over its limit."""

    status = 431
    code = "head_too_large"


class SlowError(BlobError):
    """The client took too long to send its request."""

    status = 408
    code = "timeout"


class QuotaError(BlobError):
    """The bucket or its owner is over quota."""

    status = 507
    code = "quota_exceeded"

    def __init__(self, used: int, limit: int, unit: str = "bytes") -> None:
        super().__init__(f"{used} of {limit} {unit} are used", used=used, limit=limit, unit=unit)
        self.used = used
        self.limit = limit
        self.unit = unit


class RateError(BlobError):
    """Too much in too short a time; nothing was done, and a retry helps later."""

    status = 429
    code = "rate_limited"
    retryable = True

    def __init__(
        self, policy: str, limit: int, window_s: int, retry_after_s: int, unit: str = "requests"
    ) -> None:
        """Say what was over: more than `limit` of a unit at once, which come back in `window_s`."""
        super().__init__(
            f"too much for {policy}: {limit} {unit} at once, then as many in {window_s} s",
            policy=policy,
            limit=limit,
            unit=unit,
            window_s=window_s,
            retry_after_s=retry_after_s,
        )
        self.policy = policy
        self.limit = limit
        self.unit = unit
        self.window_s = window_s
        self.retry_after_s = retry_after_s


class UnsupportedTypeError(BlobError):
    """Blobs of this content type are not taken here."""

    status = 415
    code = "unsupported_type"


class FullError(BlobError):
    """The disk is full; reads and deletes go on."""

    status = 507
    code = "storage_full"


class UnauthenticatedError(BlobError):
    """Who are you?"""

    status = 401
    code = "unauthenticated"


class DeniedError(BlobError):
    """You may not."""

    status = 403
    code = "denied"


class MethodError(BlobError):
    """The route exists, the method does not; `allow` lists those that do."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__(f"allowed here: {allow}", allow=allow)
        self.allow = allow


class UnavailableError(BlobError):
    """A backend, a peer or the disk does not answer; a retry may help."""

    status = 503
    code = "unavailable"
    retryable = True

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s


class UnsupportedError(BlobError):
    """The traits of this store say no."""

    status = 501
    code = "unsupported"


class CompactedError(BlobError):
    """The asked revision is no longer kept; `oldest` is the first that is."""

    status = 410
    code = "compacted"

    def __init__(self, oldest: int) -> None:
        super().__init__(f"history begins at revision {oldest}", oldest=oldest)
        self.oldest = oldest


LOST = (NotFoundError, CorruptError, UnavailableError)
"""What another copy of a blob may make good."""


def classes() -> list[type[BlobError]]:
    """List every class that is raised, in the order of definition: the table of docs/errors.md."""
    found: list[type[BlobError]] = []
    for one in BlobError.__subclasses__():
        found += [one, *one.__subclasses__()]
    return found


def bare(error: BlobError) -> BlobError:
    """Make an error a value: without the frames that it met, which keep what they held."""
    return error.with_traceback(None)
