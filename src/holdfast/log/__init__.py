"""The append-only log that stores.segments and kv.embedded share, and its index."""
