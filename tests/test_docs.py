"""The docs name every error, limit that users meet, setting, route and verb that the code has."""

from dataclasses import fields
from pathlib import Path

from holdfast.config.settings import Settings
from holdfast.core import errors
from holdfast.http import openapi

DOCS = Path(__file__).parent.parent / "docs"


def _read(name: str) -> str:
    return (DOCS / name).read_text()


def test_every_error_is_in_the_table_of_errors() -> None:
    page = _read("errors.md")
    for one in errors.classes():
        assert f"`{one.__name__}`" in page
        assert f"`{one.code}`" in page
        assert str(one.status) in page


def test_every_setting_is_explained() -> None:
    page = _read("config.md")
    for field in fields(Settings):
        assert f"`{field.name}`" in page


def test_every_route_is_explained() -> None:
    page = _read("http.md")
    for path in (*openapi.PATHS, *openapi.SERVICES):
        assert path in page or path.replace("/b/{bucket}", "/blob") in page
