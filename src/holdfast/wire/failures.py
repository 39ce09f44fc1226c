"""The one JSON shape of errors, and the way back from an answer to the error it stands for."""

from collections.abc import Callable, Mapping

import msgspec

from holdfast.core import errors
from holdfast.core.errors import BlobError, Fact, InvalidError, UnavailableError

RETRY_AFTER_S_MAX = 3600  # a longer Retry-After is read as this


class ErrorDoc(msgspec.Struct):
    """The one error shape: `code`, `message`, `retryable` and the facts of the class."""

    error: dict[str, object]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ErrorDoc)


def encode_error(error: BlobError) -> ErrorDoc:
    """Spell an error for JSON; its own three members win over facts of the same name."""
    own = {"code": error.code, "message": error.message, "retryable": error.retryable}
    return ErrorDoc({name: _clean(fact) for name, fact in {**own, **error.facts, **own}.items()})


def _clean(fact: object) -> object:
    """Replace what came from a bad request and cannot be spelled as UTF-8."""
    return fact.encode("utf-8", "replace").decode() if isinstance(fact, str) else fact


def error_json(error: BlobError) -> bytes:
    """Write the body of any answer of 400 and above."""
    return _encoder.encode(encode_error(error))


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> BlobError:
    """Make the error that an answer of 300 and above stands for; `headers` in lower case.

    The code decides the class. Without a body of ours (HEAD, or a proxy in between) the status
    does; what nobody of us says becomes UnavailableError, or InvalidError where a retry is futile.
    """
    facts = _error_facts(status, headers, body)
    code = facts.pop("code", "")
    message = str(facts.pop("message", ""))
    build = _BUILDERS.get(code) if isinstance(code, str) else None
    try:
        return build(message, facts) if build else _foreign(status, message, facts)
    except (KeyError, TypeError, ValueError):
        return _foreign(status, message, facts)


def _error_facts(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    try:
        document = _decoder.decode(body).error
        facts |= {name: fact for name, fact in document.items() if isinstance(fact, Fact)}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        facts["code"] = _CODES.get(status, "")
        facts["message"] = f"the server answered {status}"
    facts.pop("retryable", None)
    total = headers.get("content-range", "").removeprefix("bytes */")
    if status == errors.UnsatisfiableError.status and total.isdecimal():
        facts.setdefault("size_bytes", int(total))
    if "allow" in headers:
        facts.setdefault("allow", headers["allow"])
    facts["retry_after_s"] = retry_after_s(headers) or 1
    return facts


def retry_after_s(headers: Mapping[str, str]) -> int:
    """Seconds of Retry-After; 0 without one, at most `RETRY_AFTER_S_MAX`; dates count as none."""
    after = headers.get("retry-after", "")
    return min(int(after), RETRY_AFTER_S_MAX) if after.isdecimal() else 0


def _foreign(status: int, message: str, facts: dict[str, Fact]) -> BlobError:
    if status in {408, 429} or status >= 500:
        return UnavailableError(message, _int(facts, "retry_after_s"))
    return InvalidError("answer", status, message or "not one of a holdfast server")


def _int(facts: Mapping[str, Fact], name: str) -> int:
    value = facts[name]
    if not isinstance(value, int):
        raise TypeError(name)
    return value


def _plain(kind: type[BlobError]) -> Callable[[str, dict[str, Fact]], BlobError]:
    def build(message: str, facts: dict[str, Fact]) -> BlobError:
        facts.pop("retry_after_s", None)
        return kind(message, **{name: fact for name, fact in facts.items() if name != "self"})

    return build


def _too_large(kind: type[errors.TooLargeError]) -> Callable[[str, dict[str, Fact]], BlobError]:
    return lambda _, facts: kind(
        str(facts["what"]), _int(facts, "limit"), str(facts.get("unit", "bytes"))
    )


_CODES = {
    kind.status: kind.code
    for kind in (
        errors.NotFoundError,
        errors.ConflictError,
        errors.GoneError,
        errors.PreconditionError,
        errors.UnsatisfiableError,
        errors.UnauthenticatedError,
        errors.DeniedError,
        errors.MethodError,
        errors.UnavailableError,
        errors.UnsupportedError,
    )
}
_BUILDERS: dict[str, Callable[[str, dict[str, Fact]], BlobError]] = {
    **{kind.code: _plain(kind) for kind in errors.classes()},
    errors.InvalidError.code: lambda _, facts: errors.InvalidError(
        str(facts["what"]), facts["got"], str(facts["allowed"])
    ),
    errors.UnsatisfiableError.code: lambda _, facts: errors.UnsatisfiableError(
        _int(facts, "size_bytes")
    ),
    errors.DigestMismatchError.code: lambda _, facts: errors.DigestMismatchError(
        str(facts["expected"]), str(facts["actual"])
    ),
    **{kind.code: _too_large(kind) for kind in (errors.TooLargeError, errors.HeadTooLargeError)},
    errors.QuotaError.code: lambda _, facts: errors.QuotaError(
        _int(facts, "used"), _int(facts, "limit"), str(facts["unit"])
    ),
    errors.RateError.code: lambda _, facts: errors.RateError(
        str(facts["policy"]),
        _int(facts, "limit"),
        _int(facts, "window_s"),
        _int(facts, "retry_after_s"),
        str(facts["unit"]),
    ),
    errors.MethodError.code: lambda _, facts: errors.MethodError(str(facts["allow"])),
    errors.UnavailableError.code: lambda message, facts: errors.UnavailableError(
        message, _int(facts, "retry_after_s")
    ),
    errors.CompactedError.code: lambda _, facts: errors.CompactedError(_int(facts, "oldest")),
}
