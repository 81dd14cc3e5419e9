"""A registry on its own host beside the nodes. Its link can be shaped, and it can be stopped.

Pods and nodes reach it at its address by plain http. See :data:`testbed.cluster.layout.REGISTRIES`.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from testbed.cluster import layout, link
from testbed.cluster.command import run
from testbed.registry import Registry
from testbed.tokens import TokenServer


class RegistryHost:
    """A registry that runs while its context is entered. Pushed images stay for the next time."""

    def __init__(self, name: str, accounts: Mapping[str, str] | None = None, tokens: TokenServer | None = None) -> None:
        self._data = layout.DATA / "registries" / name / "data/docker/registry/v2"
        self.host = layout.REGISTRIES[name]
        """``host:port``, as in the names of images."""
        self.address = layout.REGISTRY_ADDRESSES[self.host]
        """``address:port``, as this machine reaches it."""
        self._namespace = f"pantala-registry-{name}"
        self._link = f"pantreg{list(layout.REGISTRIES).index(name)}"
        within = ("nsenter", f"--net=/run/netns/{self._namespace}")
        self.registry = Registry(
            layout.DATA / "registries" / name, listen=self.address, accounts=accounts, tokens=tokens, within=within
        )
        """The registry's process. Tests stop and start it, and read its log."""

    def __enter__(self) -> Self:
        self._remove()
        run("ip", "netns", "add", self._namespace)
        link.connect(self._namespace, self._link, self.address.rpartition(":")[0].strip("[]"))
        self.registry.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.registry.stop()
        self._remove()

    def shape(self, rate: str) -> None:
        """Limit the host's link in both directions, e.g. ``200mbit``. Empty: no limit."""
        link.shape(self._namespace, self._link, rate)

    def lose(self, digest: str) -> None:
        """Delete a blob's file, as a damaged disk does. Manifests still name the blob."""
        self.registry.stop()  # the registry caches the list of its blobs
        shutil.rmtree(self._blob(digest))
        self.registry.start()

    def drop(self, repository: str, blobs: Iterable[str]) -> None:
        """Delete a repository, and the files of these blobs."""
        shutil.rmtree(self._data / "repositories" / repository, ignore_errors=True)
        for digest in blobs:
            shutil.rmtree(self._blob(digest), ignore_errors=True)

    def sent_bytes(self) -> int:
        """The bytes that the host has sent on its link since the start, also of unfinished answers."""
        return int(Path(f"/sys/class/net/{self._link}/statistics/rx_bytes").read_text())

    def _blob(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._data / "blobs" / "sha256" / name[:2] / name

    def _remove(self) -> None:
        run("ip", "link", "delete", self._link, check=False)
        run("ip", "netns", "delete", self._namespace, check=False)
