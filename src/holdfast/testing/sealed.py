"""Test classes whose tests cannot be overridden."""

from typing import Any  # the keywords of a class statement may be anything


class Sealed:
    """Refuses a subclass that redefines one of its tests: a real difference is a trait.

    >>> class Suite(Sealed):
    ...     def test_that_it_works(self) -> None: ...
    >>> class TestMine(Suite):
    ...     def test_that_it_works(self) -> None: ...
    Traceback (most recent call last):
    TypeError: TestMine may not override Suite.test_that_it_works
    """

    def __init_subclass__(cls, **keywords: Any) -> None:  # noqa: ANN401 - passed on unread
        super().__init_subclass__(**keywords)
        for suite in cls.__mro__[1:]:
            for name, value in vars(suite).items():
                if name.startswith("test_") and getattr(cls, name, None) is not value:
                    message = f"{cls.__name__} may not override {suite.__name__}.{name}"
                    raise TypeError(message)
