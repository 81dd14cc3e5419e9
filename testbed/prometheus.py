"""Prometheus and its promtool, from Debian's package ``prometheus``. They are unpacked into the user's cache.

The package is not installed, because its installation starts a server and needs root. Programs on ``PATH`` come first.
"""

import json
import os
import shutil
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from testbed.binaries import cache
from testbed.cluster import packages
from testbed.cluster.command import CommandError, run
from testbed.process import Process, free_ports

_READY_SECONDS = 20.0


def installed(name: str) -> bool:
    """True if :func:`program` needs no download."""
    return bool(shutil.which(name)) or (cache() / "prometheus" / "usr" / "bin" / name).exists()


def program(name: str) -> Path:
    """The path of ``prometheus`` or ``promtool``. Raises :class:`CommandError` if the package cannot be downloaded."""
    folder = cache() / "prometheus"
    if not installed(name):
        print("unpacking Debian's package prometheus into the cache: once", file=sys.stderr, flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".prometheus-") as made:
            archive = packages.download("prometheus", Path(made))
            run("dpkg-deb", "-x", str(archive), str(Path(made) / "files"))
            shutil.rmtree(folder, ignore_errors=True)
            (Path(made) / "files").replace(folder)
    return Path(shutil.which(name) or folder / "usr" / "bin" / name)


class Prometheus:
    """A server on loopback that scrapes ``targets`` every second, while its context is entered."""

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[str]], rules: Path | None = None) -> None:
        """``targets``: the addresses ``host:port`` of each job. ``rules``: a file with alerts."""
        self._folder = folder
        self._targets = targets
        self._rules = rules
        self._server: Process
        self._url = ""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [] if self._rules is None else [str(self._rules)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
                for job, addresses in self._targets.items()
            ],
        }
        file = self._folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(configuration))
        [port] = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        command = [
            str(program("prometheus")),
            f"--config.file={file}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._server = Process(command, self._folder / "prometheus.log", {**os.environ, "GOMAXPROCS": "1"})
        if not self._server.becomes(self._answers, _READY_SECONDS):
            self._server.kill()
            raise CommandError(f"Prometheus does not answer. The end of its log:\n{self._server.tail()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()

    def query(self, text: str) -> list[dict[str, Any]]:
        """The series that a query has now, each with ``metric`` and ``value``."""
        found: list[dict[str, Any]] = self._get("/api/v1/query", query=text)["result"]
        return found

    def targets(self) -> dict[str, str]:
        """The last error of each target, by its address. Empty texts: it was scraped."""
        return {each["labels"]["instance"]: each["lastError"] for each in self._get("/api/v1/targets")["activeTargets"]}

    def alerts(self) -> set[str]:
        """The names of the alerts that are pending or firing."""
        return {each["labels"]["alertname"] for each in self._get("/api/v1/alerts")["alerts"]}

    def _get(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def _answers(self) -> bool:
        with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2):
            return True
