"""The faces of the server: one behaviour, answered by the hot path or by the ASGI app."""
