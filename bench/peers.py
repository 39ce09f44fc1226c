"""holdfast and nginx as servers under test, each set up to be strong."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.debian import find
from bench.process import Server, free_port
from bench.table import NotRunError

ROOT = Path(__file__).parent.parent

NGINX = """
worker_processes {workers}; daemon off; master_process on; pid {work}/nginx.pid;
error_log {work}/error.log error; worker_rlimit_nofile 65536; {user}
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off; server_tokens off; sendfile {sendfile}; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 600s; reset_timedout_connection on;
  open_file_cache max=100000 inactive=600s; open_file_cache_valid 600s;
  types {{}} default_type application/octet-stream;
  client_max_body_size 0; client_body_buffer_size 128k; client_body_temp_path {work}/body;
  server {{
    listen 127.0.0.1:{port} backlog=4096{share}; root {work}/www;
    location / {{ dav_methods PUT; create_full_put_path on; dav_access user:rw; }}
  }}
}}
"""


def holdfast(
    directory: Path, *, workers: int = 1, variables: Mapping[str, str] | None = None
) -> Server:
    """Describe holdfast's server with no limit on bodies."""
    port = free_port()
    data = directory / "data"
    arguments = ["serve", "--data", str(data), "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--workers", str(workers)]
    environment = {"HOLDFAST_MAX_BODY_BYTES": "0", "PYTHONPATH": str(ROOT / "src")}
    return Server(
        name="holdfast",
        port=port,
        command=[sys.executable, "-m", "holdfast", *arguments],
        directory=directory,
        path="/blob/",
        ready_path="/healthz",
        environment=environment | dict(variables or {}),
    )


def nginx(directory: Path, *, sendfile: bool = True, workers: int = 1) -> Server:
    """Describe nginx with static files and WebDAV PUT; installed when absent."""
    program = find("nginx", "nginx-light")
    port = free_port()
    for name in ("www", "body"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    text = NGINX.format(
        work=directory,
        port=port,
        workers=workers,
        share=" reuseport" if workers > 1 else "",
        sendfile="on" if sendfile else "off",
        user="user root;" if os.geteuid() == 0 else "",
    )
    config = directory / "nginx.conf"
    config.write_text(text)
    return Server(
        name="nginx" if sendfile else "nginx, sendfile off",
        port=port,
        command=[program, "-c", str(config), "-p", str(directory), "-e", f"{directory}/error.log"],
        directory=directory,
        path="/blob/",
        ready_path="/",
    )


def nginx_version() -> str:
    """Say which nginx runs."""
    try:
        program = find("nginx", "nginx-light")
    except NotRunError as error:
        return f"nginx absent: {error}"
    return subprocess.run(
        [program, "-v"], capture_output=True, text=True, check=True
    ).stderr.strip()
