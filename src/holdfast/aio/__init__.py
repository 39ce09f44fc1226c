"""A bucket for asyncio programs: the verbs of any Bucket, awaited, each in a worker thread.

For a store in this process; behind a URL, `AsyncClient` needs no threads. Every bucket that comes
from one `AsyncBucket` shares its threads, of which there are few, so that a thousand waiting puts
cost a thousand small objects and their commits still share one sync of the disk.

    >>> import asyncio, tempfile
    >>> from holdfast.config import open_bucket
    >>> async def main(folder):
    ...     async with AsyncBucket(open_bucket(folder)) as store:
    ...         await store.put("hello", b"world")
    ...         return await store.get("hello")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    b'world'
"""

from holdfast.aio.bucket import AsyncBucket

__all__ = ["AsyncBucket"]
