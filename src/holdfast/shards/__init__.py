"""Names and small bytes in the files of SQLite: shards, and epochs over them."""
