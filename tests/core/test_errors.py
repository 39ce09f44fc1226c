import pytest

from holdfast.core import errors
from holdfast.core.errors import BlobError


def test_every_class_says_its_status_code_and_whether_to_retry() -> None:
    found = errors.classes()
    assert len(found) == len({each.code for each in found})
    for each in found:
        assert each.code == each.code.lower().replace(" ", "_")
        assert 400 <= each.status < 600
        assert each.retryable == (each in {errors.UnavailableError, errors.RateError})
        assert each.__doc__
        assert "status" in vars(each) or each is errors.CorruptError
    assert BlobError not in found


def test_every_class_of_the_module_is_in_the_table() -> None:
    named = {each for each in vars(errors).values() if isinstance(each, type)}
    assert {each for each in named if issubclass(each, BlobError)} == {BlobError, *errors.classes()}


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (errors.NotFoundError("gone", key="k"), {"key": "k"}),
        (errors.InvalidError("key", "", "some"), {"what": "key", "got": "", "allowed": "some"}),
        (errors.UnsatisfiableError(7), {"size_bytes": 7}),
        (errors.DigestMismatchError("a", "b"), {"expected": "a", "actual": "b"}),
        (errors.TooLargeError("body", 5), {"what": "body", "limit": 5, "unit": "bytes"}),
        (errors.QuotaError(3, 2), {"used": 3, "limit": 2, "unit": "bytes"}),
        (errors.MethodError("GET, PUT"), {"allow": "GET, PUT"}),
        (errors.UnavailableError("later", 3), {"retry_after_s": 3}),
        (errors.CompactedError(9), {"oldest": 9}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_carry_their_facts(error: BlobError, facts: dict[str, object]) -> None:
    assert error.facts == facts
    assert str(error) == error.message
    for name, value in facts.items():
        if hasattr(error, name):
            assert getattr(error, name) == value


def test_programs_may_catch_by_the_names_of_python() -> None:
    assert issubclass(errors.NotFoundError, LookupError)
    assert issubclass(errors.InvalidError, ValueError)
    assert issubclass(errors.UnsatisfiableError, ValueError)
