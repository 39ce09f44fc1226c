"""Reading settings: defaults, then the TOML file, then HOLDFAST_* variables, then flags.

Later ones win. Every value remembers where it came from, so that an error can say it:

    port (holdfast.toml:3): a whole number from 0 to 65,535; got 99999
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple, cast

from holdfast.config.settings import (
    ALIASES,
    CACHE_DIR_ALLOWED,
    COLD_ALLOWED,
    LOG_ALLOWED,
    RULES,
    SPREAD_ALLOWED,
    Settings,
    is_loopback,
    read_value,
    shown,
)
from holdfast.config.stack import FOLDERS, PLACES, TARGETS, check_writable, locate, spell
from holdfast.core.errors import InvalidError
from holdfast.core.marker import SQLITE

ENVIRONMENT_PREFIX = "HOLDFAST_"
OTHER_VARIABLES = frozenset({f"HOLDFAST_{name}" for name in ("CONFIG", "STORE", "BUCKET", "KEY")})
FILE_BYTES_MAX = 1024 * 1024
ALIASED = {
    "num_shards": "a whole number, at least 1",
    "data_dir": "a folder",
    "storage_compression": "true or false",
}
LINE = re.compile(r"line (\d+)")


class Given(NamedTuple):
    """One value as it came and where it came from."""

    name: str
    raw: object
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Checked settings, and for each where it came from."""

    settings: Settings
    origins: Mapping[str, str]

    def check_folders(self) -> None:
        """Make sure that the data folder, and that it is moved to, can be used, or made.

        Raises:
            InvalidError: it is no folder, or this user may not write there.
        """
        check_writable(self.settings.data, f"data ({self.origins['data']})")
        if self.settings.move_to:
            folder = locate(self.settings.move_to, {}).folder
            check_writable(folder, f"move_to ({self.origins['move_to']})")


def load(
    file: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Read and check all settings; `flags` maps names to text, `environment` is the process's.

    Raises:
        InvalidError: an unknown key, or a value that is not allowed; it names the origin.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, object] = {}
    origins = {one.name: "default" for one in fields(Settings)}
    for layer in (_from_file(file), _from_environment(variables), _from_flags(flags or {})):
        for given in _once(layer):
            values[given.name] = _value(given)
            origins[given.name] = given.origin
    loaded = Loaded(Settings(**values), origins)  # type: ignore[arg-type]  # RULES checked them
    _check_together(loaded)
    return loaded


def _once(layer: Iterator[Given]) -> Iterator[Given]:
    """Translate what one place says, which says nothing in two ways.

    Raises:
        InvalidError: it does.
    """
    said: dict[str, str] = {}
    for given in layer:
        for one in _spelled(_translated(given)):
            if one.name in said:
                what = f"{one.name} ({one.origin})"
                got = shown(one.name, one.raw)
                raise InvalidError(what, got, f"it is said by {said[one.name]}, too")
            said[one.name] = one.origin
            yield one


def _spelled(given: Given) -> Iterator[Given]:
    """A URL in the place of the data folder says several settings."""
    if given.name != "data" or not isinstance(given.raw, str):
        yield given
        return
    try:
        said = spell(given.raw)
    except InvalidError as error:
        raise _about(given.name, given.origin, error) from None
    for name, text in said.items():
        yield _given_text(name, text, given.origin)


def _about(name: str, origin: str, error: InvalidError) -> InvalidError:
    """Say where the URL stands that is wrong, and which of its options, if it is one of these."""
    what, got, allowed = (error.facts[fact] for fact in ("what", "got", "allowed"))
    option = "" if what == "store" else f"{what} of "
    return InvalidError(
        f"{option}{name} ({origin})", got, FOLDERS if allowed == TARGETS else str(allowed)
    )


def _translated(given: Given) -> Given:
    """Call a key of another system by the name that it has here.

    Raises:
        InvalidError: a value that means something here, and nothing there.
    """
    if given.name not in ALIASES:
        return given
    raw = given.raw
    if given.name == "storage_compression":
        raw = {"true": "zstd", "false": "none"}.get(str(raw).lower())
    if raw in (0, "", None):
        raise InvalidError(f"{given.name} ({given.origin})", str(given.raw), ALIASED[given.name])
    return given._replace(name=ALIASES[given.name], raw=raw)


def _value(given: Given) -> object:
    if given.name not in RULES:
        raise _unknown(given)
    return read_value(given.name, given.raw, f"{given.name} ({given.origin})")


def _unknown(given: Given) -> InvalidError:
    what = f"{given.name} ({given.origin})"
    near = difflib.get_close_matches(given.name, RULES, n=1)
    hint = f"did you mean {near[0]}?" if near else "`holdfast config show` lists all"
    return InvalidError(what, given.name, f"there is no such setting; {hint}")  # it may be a key


def _from_file(file: Path | None) -> Iterator[Given]:
    if file is None:
        return
    text = _read(file)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = LINE.search(str(error))
        place = f"{file}:{line[1]}" if line else str(file)
        raise InvalidError(place, str(error), "a TOML file") from None
    for name, raw in document.items():
        yield Given(name, raw, f"{file}:{_line_of(name, text)}")


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise InvalidError("config", str(file), "a TOML file of at most 1 MiB")
        return data.decode()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidError("config", str(file), f"a readable file ({reason})") from None
    except UnicodeDecodeError:
        raise InvalidError("config", str(file), "a TOML file in UTF-8") from None


def _line_of(name: str, text: str) -> int:
    """Find the line that sets a top-level key or opens a table of that name; 1 if it hides."""
    key = re.compile(rf"""\s*\[*\s*["']?{re.escape(name)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if key.match(line)), 1)


def _from_environment(variables: Mapping[str, str]) -> Iterator[Given]:
    for variable in sorted(variables):
        text = variables[variable]
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in OTHER_VARIABLES or not text:
            continue
        yield _given_text(variable.removeprefix(ENVIRONMENT_PREFIX).lower(), text, variable)


def _from_flags(flags: Mapping[str, str]) -> Iterator[Given]:
    for name, text in flags.items():
        yield _given_text(name, text, "--" + name.replace("_", "-"))


def _given_text(name: str, text: str, origin: str) -> Given:
    rule = RULES.get(name)
    return Given(name, rule.kind.from_text(text) if rule else text, origin)


def _check_together(loaded: Loaded) -> None:
    settings, origins = loaded.settings, loaded.origins
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        lone = "tls_key" if settings.tls_certificate is None else "tls_certificate"
        got = cast(Path, getattr(settings, lone))
        raise InvalidError(
            f"{lone} ({origins[lone]})", str(got), "tls_certificate and tls_key come together"
        )
    for name, file in (
        ("tls_certificate", settings.tls_certificate),
        ("tls_key", settings.tls_key),
    ):
        if file is not None and not os.access(file, os.R_OK):
            raise InvalidError(f"{name} ({origins[name]})", str(file), "a readable PEM file")
    if settings.cache_dir is not None and not settings.cache:
        where = f"cache_dir ({origins['cache_dir']})"
        raise InvalidError(where, str(settings.cache_dir), CACHE_DIR_ALLOWED)
    _check_places(loaded)
    _check_alone(loaded)
    if settings.move_to:
        try:
            locate(settings.move_to, {})
        except InvalidError as error:
            raise _about("move_to", origins["move_to"], error) from None
    if settings.auth == "none" and not is_loopback(settings.host) and not settings.insecure:
        raise InvalidError(
            f"host ({origins['host']})",
            settings.host,
            "other machines could read and write everything, because there is no authentication; "
            "listen on 127.0.0.1, or say --insecure (HOLDFAST_INSECURE=true) if you mean it",
        )


def _check_places(loaded: Loaded) -> None:
    """Refuse places for blobs that do not go with others, or with the engine."""
    settings = loaded.settings
    reasons: dict[str, str] = {}
    if settings.shards or settings.engine == SQLITE:
        reasons = dict.fromkeys(PLACES, LOG_ALLOWED)
    elif settings.large:
        reasons = {"spread": SPREAD_ALLOWED, "cold": COLD_ALLOWED}
    for name, allowed in reasons.items():
        if value := getattr(settings, name):
            got = value if isinstance(value, str) else ",".join(value)
            raise InvalidError(f"{name} ({loaded.origins[name]})", got, allowed)


def _check_alone(loaded: Loaded) -> None:
    """Refuse several processes where only one knows what there is."""
    settings = loaded.settings
    reasons = {
        "async_write: what one process queues, no other one sees": settings.async_write,
        "move_to: the process that moves the store serves it": settings.move_to,
        "a cache, which knows what one process has removed": settings.cache,
        "large blobs on several disks": settings.spread,
        "large blobs in an object store": settings.large,
        "a cold store": settings.cold,
        "a store in SQLite, which is served by one process": settings.shards
        or settings.engine == SQLITE,
    }
    why = [reason for reason, is_so in reasons.items() if is_so]
    if settings.workers > 1 and why:
        where = f"workers ({loaded.origins['workers']})"
        raise InvalidError(where, settings.workers, f"1 with {why[0]}")
