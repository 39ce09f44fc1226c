"""A reader of JSON schemas, as far as ours go; what it does not know is an error, not a pass."""

from datetime import datetime
from typing import Any

KNOWN = {
    *("$ref", "type", "enum", "anyOf", "properties", "required", "additionalProperties", "items"),
    *("format", "minimum", "maximum", "maxItems", "title", "description", "default"),
}
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def check(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str = "") -> None:
    """Fail unless a value is what a schema says."""
    assert set(schema) <= KNOWN, (where, set(schema) - KNOWN)
    if "$ref" in schema:
        check(value, schemas[schema["$ref"].rpartition("/")[2]], schemas, where)
        return
    if "anyOf" in schema:
        assert any(_fits(value, one, schemas) for one in schema["anyOf"]), (where, value)
        return
    if "enum" in schema:
        assert value in schema["enum"], (where, value)
        return
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(_is(value, kind) for kind in kinds), (where, value, kinds)
    if schema.get("format") == "date-time" and value is not None:
        assert datetime.fromisoformat(value).tzinfo is not None
    if isinstance(value, dict):
        _check_object(value, schema, schemas, where)
    if isinstance(value, list):
        assert len(value) <= schema.get("maxItems", len(value)), where
        _check_all(value, schema["items"], schemas, f"{where}[]")
    if isinstance(value, int | float):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), where


def _check_all(
    values: list[Any], schema: dict[str, Any], schemas: dict[str, Any], where: str
) -> None:
    for one in values:
        check(one, schema, schemas, where)


def _check_object(
    value: dict[str, Any], schema: dict[str, Any], schemas: dict[str, Any], where: str
) -> None:
    if schema["additionalProperties"]:
        _check_all(list(value.values()), schema["additionalProperties"], schemas, where)
        return
    members = schema["properties"]
    assert set(schema["required"]) <= set(value) <= set(members), (where, set(value), set(members))
    for name, one in value.items():
        check(one, members[name], schemas, f"{where}.{name}")


def _is(value: Any, kind: str) -> bool:
    if kind in {"integer", "number"} and isinstance(value, bool):
        return False
    return isinstance(value, TYPES[kind])  # type: ignore[arg-type]


def _fits(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    try:
        check(value, schema, schemas)
    except AssertionError:
        return False
    return True
