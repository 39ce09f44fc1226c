"""holdfast: a blob store that begins as an import and becomes a server with one command."""
