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
from holdfast.core.entry import Entry, Grave, GravePage, HashPage, Page, Stats, VersionPage
from holdfast.core.preconditions import Conditions
from holdfast.core.store import Span
from holdfast.core.stream import NOW, Cursor, Event, Events

__all__ = [
    "CREATE_ONLY",
    "NOW",
    "Bucket",
    "Conditions",
    "Content",
    "Cursor",
    "Description",
    "Digest",
    "Entry",
    "Event",
    "Events",
    "Grave",
    "GravePage",
    "HashPage",
    "Item",
    "Page",
    "Span",
    "Stats",
    "VersionPage",
    "matches",
    "open",
]
