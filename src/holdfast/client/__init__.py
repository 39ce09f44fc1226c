"""Clients of a holdfast server, blocking and asynchronous, over one description of each verb.

`calls` says what a verb sends and how its answer is read, `exchange` decides what is tried again;
both know no socket. `blocking` and `asynchronous` carry their requests out with httpx.
"""

from holdfast.client.asynchronous import AsyncClient
from holdfast.client.blocking import Client
from holdfast.client.options import ClientOptions
from holdfast.wire import Presigned

__all__ = ["AsyncClient", "Client", "ClientOptions", "Presigned"]
