"""A real nginx over one folder, for tests that compare."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from serving import wait_until

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/x-numbers;
    if_modified_since before;
    max_ranges 64;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
    }}
}}
"""


class Nginx:
    """One nginx that serves `folder`/files on a free port."""

    def __init__(self, folder: Path) -> None:
        assert NGINX is not None
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        folder.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=self.port))
        self._process = subprocess.Popen(
            [NGINX, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._is_up, f"nginx does not start: {config}")

    def _is_up(self) -> bool:
        assert self._process.poll() is None, "nginx ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(10)
