"""The portable type over stores and KV: names, entries, conditions, types and limits."""
