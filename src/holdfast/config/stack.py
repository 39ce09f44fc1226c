"""From URLs, settings and the environment to the engine of a store and the wrappers around it.

    segments:///data?compress=zstd&level=9&encrypt=env:KEY
    segments:///data?cold=s3://photos/old&cold_after=90d
    sqlite:///data?shards=8&compress=zstd
    segments:///data?large=s3://photos/blobs&cache=10GiB&cache_dir=/ssd/cache&verify=digest

`encrypt` says where the master key is: in an environment variable, or in a file. The order of the
wrappers is always the same (docs/config.md), however they are named.
"""

import difflib
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.config.disks import places_of
from holdfast.config.kinds import at_home
from holdfast.config.objects import check_url
from holdfast.config.settings import (
    CACHE_DIR_ALLOWED,
    COLD_ALLOWED,
    DIGEST,
    LOG_ALLOWED,
    SPREAD_ALLOWED,
    Settings,
    read_text,
)
from holdfast.config.sharding import OPTIONS as SHARDING
from holdfast.config.sharding import Sharding, read_sharding
from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.marker import SQLITE
from holdfast.core.urls import shown_url
from holdfast.depot.stack import Place

FOLDERS = (
    "a folder, file:///folder, segments:///folder?compress=zstd&encrypt=env:NAME, "
    "sqlite:///folder?shards=8"
)
TARGETS = f"{FOLDERS}, http://host:port or https://host:port"
SCHEMES = {"file", "holdfast", "segments", SQLITE}
WRAPPERS = {
    "compress": "compress",
    "level": "compress_level",
    "dictionary": "dictionary",
    "encrypt": "encrypt",
    "large": "large",
    "cold": "cold",
    "cold_after": "cold_after",
    "spread": "spread",
    "verify": "verify",
    "cache": "cache",
    "cache_dir": "cache_dir",
}
"""Options of URLs, and the settings that they are."""
FROM_VARIABLES = ("compress", "level", "encrypt", "verify")
"""Those that the environment says for any folder; none sends its blobs elsewhere."""
OPTIONS = (*WRAPPERS, *SHARDING)
PLACES = ("large", "spread")
"""Those that shards do not have."""
HALF_URL = re.compile(r"(?:file|holdfast|segments|sqlite|https?):|[^?]*\?(?:.*&)?([A-Za-z_]+)=")
NEAR = 0.75  # how much alike two words are, of which one may be the other with an error in it
ZSTD = "zstd"
KEY_BYTES_MAX = 1024


class Wanted(NamedTuple):
    """The wrappers that are asked for, before any secret is read."""

    compress: bool = False
    level: int = limits.COMPRESS_LEVEL
    encrypt: str = ""
    """Where the master key is."""
    large: str = ""
    """The URL of the object store for large blobs; empty: what the folder remembers."""
    cold: str = ""
    """That of the object store for old blobs; empty: what the folder remembers."""
    cold_after_s: float = limits.COLD_AFTER_S
    verify: bool = False
    """By SHA-256."""
    cache_bytes: int = 0
    cache_dir: Path | None = None
    disks: tuple[Place, ...] = ()
    """Over which large blobs are spread; none: those that the folder remembers."""
    dictionary: Path | None = None
    """The file of one for small blobs; None: what the folder remembers."""


class Located(NamedTuple):
    """A store in a folder."""

    folder: Path
    wanted: Wanted
    sharding: Sharding = Sharding()


def locate(target: str | Path, variables: Mapping[str, str] | None = None) -> Located:
    """Read folder, wrappers and engine from a path or URL; what that leaves open, the environment.

    >>> folder, wanted, _ = locate("segments:///srv/my%20blobs?compress=zstd&encrypt=env:KEY", {})
    >>> folder.as_posix(), wanted.compress, wanted.encrypt
    ('/srv/my blobs', True, 'env:KEY')
    >>> locate("sqlite:///data?shards=8", {}).sharding.shards
    8

    Raises:
        InvalidError: it is neither, or has options that there are not.
    """
    given = os.environ if variables is None else variables
    text = str(target)
    if isinstance(target, Path) or "://" not in text:
        return Located(_read_path(target), _wanted({}, given))
    folder, scheme, options = _read_url(text)
    sharding = read_sharding(scheme, options)
    if wrong := [name for name in PLACES if sharding.engine == SQLITE and name in options]:
        raise InvalidError(", ".join(wrong), shown_url(text), LOG_ALLOWED)
    return Located(folder, _wanted(options, given), sharding)


def spell(url: str) -> dict[str, str]:
    """The settings that a path or the URL of a folder says, each as text, yet to be checked.

    >>> spell("sqlite:///srv/blobs?shards=8&level=9")
    {'data': '/srv/blobs', 'engine': 'sqlite', 'shards': '8', 'compress_level': '9'}

    Raises:
        InvalidError: it is another URL, or has options that there are not.
    """
    if "://" not in url:
        check_path(url)
        return {"data": url}
    folder, scheme, options = _read_url(url)
    engine = read_sharding(scheme, options).engine
    names = WRAPPERS | SHARDING
    said = {"data": str(folder)} | ({"engine": engine} if engine else {})
    return said | {names[name]: text for name, text in options.items()}


def wanted_of(settings: Settings) -> Wanted:
    """What the settings of a server say.

    Raises:
        InvalidError: `large` or `cold` has a secret in it, or one setting does not go with another.
    """
    if settings.cache_dir is not None and not settings.cache:
        raise InvalidError("cache_dir", str(settings.cache_dir), CACHE_DIR_ALLOWED)
    if settings.large and settings.cold:
        raise InvalidError("cold", settings.cold, COLD_ALLOWED)
    if settings.large and settings.spread:
        raise InvalidError("spread", ",".join(settings.spread), SPREAD_ALLOWED)
    return Wanted(
        settings.compress == ZSTD,
        settings.compress_level,
        settings.encrypt,
        check_url(settings.large) if settings.large else "",
        check_url(settings.cold, "cold") if settings.cold else "",
        settings.cold_after,
        settings.verify == DIGEST,
        settings.cache,
        settings.cache_dir,
        places_of(settings.spread),
        settings.dictionary,
    )


def options_of(query: str) -> dict[str, str]:
    """Read the options behind the question mark, in which a plus sign is one, as in the path.

    Raises:
        InvalidError: one comes twice, or there is no such option.
    """
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    options = dict(pairs)
    counted = Counter(name for name, _ in pairs)
    wrong = [name for name, times in counted.items() if times > 1 or name not in OPTIONS]
    if wrong:  # values are not shown: one may be a key
        raise InvalidError(
            "options", ", ".join(wrong), f"each at most once of {', '.join(OPTIONS)}"
        )
    return options


def read_master(place: str, variables: Mapping[str, str] | None = None) -> bytes | None:
    """Read the master key from where a setting says it is; None where there is none.

    Raises:
        InvalidError: it is not there, or is no key.
    """
    if not place:
        return None
    from holdfast.stores.keyring import parse_master  # noqa: PLC0415 - an extra

    kind, _, name = place.partition(":")
    if kind == "file":
        return parse_master(_read_file(name), place)
    given = os.environ if variables is None else variables
    if name not in given:
        raise InvalidError("encrypt", place, f"the variable {name} is not set")
    return parse_master(given[name], place)


def _read_url(text: str) -> tuple[Path, str, dict[str, str]]:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise InvalidError("store", shown_url(text), TARGETS) from None
    is_folder = parts.scheme in SCHEMES and parts.netloc in {"", "localhost"}
    if not is_folder or not parts.path or parts.fragment:
        allowed = FOLDERS if parts.scheme in {"http", "https"} else TARGETS
        raise InvalidError("store", shown_url(text), allowed)
    return Path(unquote(parts.path)), parts.scheme, options_of(parts.query)


def check_path(text: str) -> None:
    """See that there is a path, and no URL that lacks a part: its options would be a part of it.

    An option with a typing error in it is one: what it asks for, such as a key, would be left out.

    Raises:
        InvalidError: there is none, or it is such a URL.
    """
    match = HALF_URL.match(text)
    is_half = match is not None and (match[1] is None or _is_option(match[1]))
    if is_half or not text.strip():
        raise InvalidError("store", text.partition("?")[0], TARGETS)


def _is_option(word: str) -> bool:
    return bool(difflib.get_close_matches(word.lower(), OPTIONS, 1, NEAR))


def check_writable(folder: Path, what: str) -> None:
    """See that there is a folder that this user may write, or one in which it can be made.

    Raises:
        InvalidError: there is not; it is about `what`.
    """
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise InvalidError(what, str(folder), f"a folder, but {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InvalidError(what, str(folder), f"a writable folder, but {nearest} is not")


def _read_path(target: str | Path) -> Path:
    if isinstance(target, Path):
        return target
    check_path(target)
    try:
        return at_home(target)
    except ValueError:
        raise InvalidError("store", target, TARGETS) from None


def read_dictionary(file: Path | None) -> bytes | None:
    """Read the file of a dictionary.

    Raises:
        InvalidError: it cannot be read, or is none.
        UnsupportedError: what compresses is not installed.
    """
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            data = opened.read(limits.DICTIONARY_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidError("dictionary", str(file), f"a readable file ({reason})") from None
    from holdfast.stores.compressed import Compression  # noqa: PLC0415 - an extra

    Compression(dictionaries=[data])
    return data


def _wanted(options: Mapping[str, str], variables: Mapping[str, str]) -> Wanted:
    said = {
        name: variables.get(f"HOLDFAST_{WRAPPERS[name].upper()}", "") for name in FROM_VARIABLES
    }
    said |= {name: text for name, text in options.items() if name in WRAPPERS}
    values = {WRAPPERS[name]: _value(name, text) for name, text in said.items() if text}
    return wanted_of(Settings(**values))


def _value(name: str, text: str) -> Any:  # noqa: ANN401 - what the kind of the setting reads
    if name in {"large", "cold"}:
        return check_url(text, name)
    return read_text(WRAPPERS[name], text, name)


def _read_file(path: str) -> str:
    try:
        with at_home(path).open("rb") as file:
            return file.read(KEY_BYTES_MAX).decode("ascii", "replace")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidError("encrypt", f"file:{path}", f"a readable file ({reason})") from None
    except ValueError:
        raise InvalidError("encrypt", f"file:{path}", "a readable file (no such home)") from None
