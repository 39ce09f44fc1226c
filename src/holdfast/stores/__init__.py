"""Places for bytes, each behind the contract of holdfast.core.store."""
