"""The ways to a bucket that one suite tests: in this process or over HTTP, blocking or awaited."""

LIMIT = 30_000_000  # bytes of a body, of the server
WAYS = ["depot", "awaited depot", "client", "awaited client"]
