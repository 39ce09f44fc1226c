"""Azurite, the emulator of Azure's blob storage, as a server under test.

It comes from npm, by tools/peers.sh. Its account is one of our own, so that signatures are checked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from email.utils import formatdate
from http.client import HTTPConnection
from pathlib import Path

from bench.process import Server, free_port
from bench.table import NotRunError

PROGRAM = "azurite/node_modules/.bin/azurite-blob"
ACCOUNT = "holdfast"
KEY = base64.b64encode(b"no secret, for it opens nothing but an emulator").decode()
CONTAINER = "bench"
VERSION = "2021-12-02"


class Azurite:
    """One process that serves one account, and keeps all in memory."""

    def __init__(self, directory: Path, work_directory: Path) -> None:
        """Describe it.

        Raises:
            NotRunError: it is not installed.
        """
        program = work_directory / PROGRAM
        if not program.exists():
            raise NotRunError("tools/peers.sh installs it where there is npm")
        self.port = free_port()
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--silent"]
        options += ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
        self.server = Server(
            name="Azurite",
            port=self.port,
            command=[str(program), *options],
            directory=directory,
            path="/",
            ready_path="/",
            environment={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        )

    def make_container(self) -> None:
        """Make the container, which the client of object stores cannot.

        The request is signed with the shared key
        (learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key).

        Raises:
            NotRunError: it is refused.
        """
        path = f"/{ACCOUNT}/{CONTAINER}"
        own = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION}
        named = "".join(f"{name}:{value}\n" for name, value in own.items())
        signed = "PUT" + "\n" * 12 + f"{named}/{ACCOUNT}{path}\nrestype:container"
        mac = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
        signature = base64.b64encode(mac).decode()
        headers = own | {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("PUT", f"{path}?restype=container", headers=headers)
        status = connection.getresponse().status
        connection.close()
        if status != 201:
            raise NotRunError(f"Azurite makes no container: {status}")
