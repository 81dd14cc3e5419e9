"""The cluster that the demo runs on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple


class Taken(NamedTuple):
    """Bytes that a node received, by provider."""

    supernode: int
    peers: int


class Place(AbstractContextManager["Place"], ABC):
    """A cluster with Pantala. It runs while its context is entered. The defaults are for a cluster of the user."""

    title: str
    """A description of the cluster for the demo's output."""
    origin_host: str
    """The address of this machine as the supernode sees it."""
    origin_rate: float | None = None
    """The origin's limit in bytes per second. ``None``: no limit."""
    task_name = "demo"
    programs = ""
    """The folders of kubectl and of its plugin, as in PATH. Empty: as the user has them."""
    console = ""
    """The URL of the operator's console. Empty: reach it with ``kubectl pantala ui``."""

    @property
    def kubeconfig(self) -> Path | None:
        """The cluster's kubeconfig. ``None``: the user's own kubeconfig."""
        return None

    @abstractmethod
    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl with ``text`` as its standard input. Raises :class:`demo.errors.DemoError`."""

    def check(self) -> None:
        """Raise :class:`demo.errors.DemoError` if one of our processes has ended."""

    def log(self, name: str) -> str:
        """The end of a process's log. Empty if the demo cannot read it."""
        return ""

    def held(self, task_id: str) -> Mapping[str, int]:
        """Bytes of the task that each node has verified until now. Empty if not known."""
        return {}

    def taken(self, task_id: str) -> Mapping[str, Taken]:
        """Bytes that each node has received, by provider. Empty if not known."""
        return {}

    def files(self, path: str) -> Mapping[str, Path]:
        """The file at which each node publishes ``path``. Empty if not known."""
        return {}
