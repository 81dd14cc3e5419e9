"""nginx as an origin on loopback: http, https, and a server that limits each connection."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from testbed.pki import Authority
from testbed.process import Process, free_ports

_HOST = "127.0.0.1"
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
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
    return shutil.which("nginx", path=_PATH)


class Nginx:
    """Serves the files of a folder while its context is entered. ``rate``: bytes per second of a slow connection."""

    def __init__(self, root: Path, folder: Path, rate: int) -> None:
        self._root = root
        self._folder = folder
        self._rate = rate
        self._log = folder / "nginx.access"
        self._stack = ExitStack()
        self._process: Process
        self._ports: dict[str, int] = {}
        self.authority = folder / "ca" / "ca.crt"

    @property
    def pid(self) -> int:
        """The process ID of the master, whose children serve."""
        return self._process.pid

    def url(self, way: str, name: str) -> str:
        """The URL of a file. ``way``: ``http``, ``https`` or ``slow``."""
        return f"{'https' if way == 'https' else 'http'}://{_HOST}:{self._ports[way]}/{name}"

    def __enter__(self) -> Self:
        program = nginx_program()
        if program is None:
            raise BenchError("nginx is missing. Install the package nginx.")
        certificate, key = Authority(self._folder / "ca").issue("server", "origin", names=(_HOST,))
        self._ports = dict(zip(("http", "slow", "https"), free_ports(3), strict=True))
        configuration = self._folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=self._folder, root=self._root, host=_HOST, rate=self._rate, certificate=certificate, key=key,
                **self._ports,
            )
        )  # fmt: skip
        command = [program, "-e", str(self._folder / "nginx.error"), "-p", str(self._folder), "-c", str(configuration)]
        self._process = Process(command, self._folder / "nginx.log")
        self._stack.callback(self._process.stop)
        try:
            self._await_start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def sent(self) -> int:
        """Bytes of body that nginx has handed to the network. Ask after all connections have ended."""
        seen = -1
        while (found := self._sum()) != seen:  # nginx logs connections that a kill has cut a moment later
            seen = found
            time.sleep(0.3)
        return found

    def _sum(self) -> int:
        return sum(int(line) for line in self._log.read_text().splitlines()) if self._log.exists() else 0

    def _await_start(self) -> None:
        deadline = time.monotonic() + 10
        while not (self._folder / "nginx.pid").exists():
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise BenchError(f"nginx does not start:\n{self._process.tail()}")
            time.sleep(0.02)
