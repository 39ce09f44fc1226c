"""Exit codes: one for each class of error, so that scripts need not read messages."""

from collections.abc import Mapping
from types import MappingProxyType

from holdfast.core import errors
from holdfast.core.errors import BlobError

OTHER = 1
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
BROKEN_PIPE = 141  # 128 + SIGPIPE

EXIT_CODES: Mapping[type[BlobError], int] = MappingProxyType(
    {
        errors.InvalidError: USAGE,
        errors.UnsatisfiableError: USAGE,
        errors.NotFoundError: 3,
        errors.GoneError: 3,
        errors.PreconditionError: 4,
        errors.ConflictError: 4,
        errors.DigestMismatchError: 5,
        errors.CorruptError: 5,
        errors.TooLargeError: 6,
        errors.QuotaError: 6,
        errors.UnsupportedTypeError: 2,
        errors.FullError: 6,
        errors.RateError: 7,
        errors.UnavailableError: 7,
        errors.UnauthenticatedError: 8,
        errors.DeniedError: 8,
    }
)


def exit_code(error: BaseException) -> int:
    """The exit code of an error; 1 for those that have none of their own."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), OTHER)
