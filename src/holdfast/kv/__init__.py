"""Places for metadata, each behind the contract of holdfast.core.kv."""
