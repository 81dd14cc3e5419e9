"""A registry on a host of its own beside the nodes: with a link that can be shaped, and that can go away.

Pods and nodes reach it at its address, by plain http; see :data:`testbed.cluster.layout.REGISTRIES`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.cluster import layout, link
from testbed.cluster.command import run
from testbed.registry import Registry


class RegistryHost:
    """Runs while it is entered. What was pushed is there again the next time."""

    def __init__(self, name: str, accounts: Mapping[str, str] | None = None) -> None:
        self._name = name
        self.host = layout.REGISTRIES[name]
        """``address:port``, as images' names have it."""
        self._address = self.host.rpartition(":")[0]
        self._namespace = f"pantala-registry-{name}"
        self._link = f"pantreg{list(layout.REGISTRIES).index(name)}"
        within = ("nsenter", f"--net=/run/netns/{self._namespace}")
        self.registry = Registry(layout.DATA / "registries" / name, listen=self.host, accounts=accounts, within=within)
        """Its process: to be stopped and started, and asked what it sent."""

    def __enter__(self) -> Self:
        self._remove()
        run("ip", "netns", "add", self._namespace)
        link.connect(self._namespace, self._link, self._address)
        self.registry.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.registry.stop()
        self._remove()

    def shape(self, rate: str) -> None:
        """Limit its link both ways, e.g. ``200mbit``; empty: no limit."""
        link.shape(self._namespace, self._link, rate)

    def lose(self, digest: str) -> None:
        """Let a blob's bytes be gone, as from a damaged disk; manifests still name it."""
        name = digest.removeprefix("sha256:")
        self.registry.stop()  # it remembers which blobs it has
        shutil.rmtree(
            layout.DATA / "registries" / self._name / f"data/docker/registry/v2/blobs/sha256/{name[:2]}/{name}"
        )
        self.registry.start()

    def sent_bytes(self) -> int:
        """What it has put on its link since it was entered, of answers that go on, too."""
        return int(Path(f"/sys/class/net/{self._link}/statistics/rx_bytes").read_text())

    def _remove(self) -> None:
        run("ip", "link", "delete", self._link, check=False)
        run("ip", "netns", "delete", self._namespace, check=False)
