"""URLs as errors may show them."""

import re

SHOWN_CHARACTERS_MAX = 200


def shown_url(text: str) -> str:
    """A path or URL without what may be a secret: who asks, options, and what is behind a `#`.

    >>> shown_url("https://KEY@blobs.example.org/x?signature=abc"), shown_url("a/folder")
    ('https://blobs.example.org/x', 'a/folder')
    """
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text[:SHOWN_CHARACTERS_MAX]
    plain, _, _ = re.sub(r"[?#].*", "", rest, flags=re.DOTALL).partition("\n")
    host, slash, path = plain.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"[:SHOWN_CHARACTERS_MAX]
