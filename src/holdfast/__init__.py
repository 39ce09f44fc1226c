"""holdfast: a blob store that begins as an import and becomes a server with one command.

    >>> import holdfast, tempfile
    >>> with tempfile.TemporaryDirectory() as folder, holdfast.open(folder) as bucket:
    ...     entry = bucket.put("greetings/hello.txt", b"hello")
    ...     entry.content_type, bucket.get("greetings/hello.txt")
    ('text/plain', b'hello')

`open` takes a folder, or the URL of a server; the verbs are those of `Bucket` either way.
"""

from holdfast.config import open_bucket as open  # noqa: A004 - `holdfast.open` is the point
from holdfast.core.bucket import CREATE_ONLY, Bucket, Content, Description, Item, matches
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, HashPage, Page, Stats
from holdfast.core.preconditions import Conditions
from holdfast.core.store import Span

__all__ = [
    "CREATE_ONLY",
    "Bucket",
    "Conditions",
    "Content",
    "Description",
    "Digest",
    "Entry",
    "HashPage",
    "Item",
    "Page",
    "Span",
    "Stats",
    "matches",
    "open",
]
