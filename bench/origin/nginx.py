"""nginx as an origin on loopback: http, https, and a server that limits each connection."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from testbed.pki import Authority
from testbed.process import Process, free_ports

_HOST = "127.0.0.1"
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
_CONFIGURATION = """\
worker_processes 2;
daemon off;
error_log {folder}/nginx.error;
pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
  sendfile on;
  tcp_nopush on;
  log_format body '$body_bytes_sent';
  access_log {folder}/nginx.access body;
  client_body_temp_path {folder}/temp-body;
  proxy_temp_path {folder}/temp-proxy;
  fastcgi_temp_path {folder}/temp-fastcgi;
  uwsgi_temp_path {folder}/temp-uwsgi;
  scgi_temp_path {folder}/temp-scgi;
  root {root};
  server {{ listen {host}:{http}; }}
  server {{ listen {host}:{slow}; limit_rate {rate}; }}
  server {{ listen {host}:{https} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; }}
}}
"""


def nginx_program() -> str | None:
    """The path of nginx, which is often not in the PATH. ``None``: it is not installed."""
    return shutil.which("nginx", path=PATH)


@dataclass(frozen=True)
class Nginx:
    """A running nginx."""

    pid: int
    """The process ID of the master, whose children serve."""
    authority: Path
    """The certificate of the authority that signs the server's certificate."""
    ports: Mapping[str, int]
    log: Path

    def url(self, way: str, name: str) -> str:
        """The URL of a file. ``way``: ``http``, ``https`` or ``slow``."""
        return f"{'https' if way == 'https' else 'http'}://{_HOST}:{self.ports[way]}/{name}"

    def sent(self) -> int:
        """Bytes of body that nginx has handed to the network. Ask after all connections have ended."""
        seen = -1
        while (found := self._sum()) != seen:  # nginx logs connections that a kill has cut a moment later
            seen = found
            time.sleep(0.3)
        return found

    def _sum(self) -> int:
        return sum(int(line) for line in self.log.read_text().splitlines()) if self.log.exists() else 0


@contextmanager
def serving(root: Path, folder: Path, rate: int) -> Iterator[Nginx]:
    """Serve the files of ``root`` in the block. ``rate``: bytes per second of a slow connection."""
    program = nginx_program()
    if program is None:
        raise BenchError("nginx is missing. Install the package nginx.")
    certificate, key = Authority(folder / "ca").issue("server", "origin", names=(_HOST,))
    ports = dict(zip(("http", "slow", "https"), free_ports(3), strict=True))
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder, root=root, host=_HOST, rate=rate, certificate=certificate, key=key, **ports
        )
    )  # fmt: skip
    command = [program, "-e", str(folder / "nginx.error"), "-p", str(folder), "-c", str(configuration)]
    with Process(command, folder / "nginx.log") as process:
        if not process.becomes((folder / "nginx.pid").exists, 10.0):
            raise BenchError(f"nginx does not start:\n{process.tail()}")
        yield Nginx(process.pid, folder / "ca" / "ca.crt", ports, folder / "nginx.access")
