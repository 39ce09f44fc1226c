"""What Google Cloud Storage says, said by a server that speaks S3.

The client of `gs://` speaks the XML API of Google Cloud Storage, which is S3's but for the names of
a few headers (cloud.google.com/storage/docs/migrating). No emulator of it that runs without
containers can list or delete by that API, so a real S3 server answers, and this changes the names.
What Google itself does otherwise, no test here shows.
"""

from urllib.parse import quote, unquote

from fault_proxy import Letter

TOKEN = "no-secret-but-the-right-one"
NAMES = {"x-goog-copy-source": "x-amz-copy-source"}
FIRST = "x-goog-if-generation-match"


def as_s3(letter: Letter) -> Letter | None:
    """Say a request as S3 has it; None if its token is wrong.

    Raises:
        ValueError: it has a condition that nothing here should have.
    """
    given = {name.lower(): value for name, value in letter.headers.items()}
    if given.pop("authorization", "") != f"Bearer {TOKEN}":
        return None
    headers = {NAMES.get(name, name): value for name, value in given.items()}
    generation = headers.pop(FIRST, None)
    if generation == "0":
        headers["if-none-match"] = "*"
    elif generation is not None:
        raise ValueError(generation)
    path, mark, query = letter.path.partition("?")
    return Letter(quote(unquote(path)) + mark + query, headers)
