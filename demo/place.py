"""Where a demo runs: what the story needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol


class Taken(NamedTuple):
    """Bytes that a node received, by provider."""

    supernode: int
    peers: int


class Place(AbstractContextManager["Place"], Protocol):
    """A cluster with Pantala in it. As a context manager it is there while the block runs."""

    title: str
    """What it is, for the reader."""
    origin_host: str
    """The address of this machine that the supernode reaches."""
    origin_rate: float | None
    """Bytes a second that the origin sends; ``None``: as fast as it can."""
    task_name: str
    """The Task's name; empty: as in the sample."""

    @property
    def kubeconfig(self) -> Path | None:
        """``None``: the user's own."""

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl with ``text`` as its standard input. Raises :class:`demo.errors.DemoError`."""

    def check(self) -> None:
        """Raise :class:`demo.errors.DemoError` if a process of ours ended."""

    def log(self, name: str) -> str:
        """The end of a process's log; empty if that cannot be seen from here."""

    def held(self, task_id: str) -> Mapping[str, int]:
        """Bytes of the task that each node has verified until now; empty if that cannot be seen from here."""

    def taken(self, task_id: str) -> Mapping[str, Taken]:
        """Where each node's bytes came from; empty if that cannot be seen from here."""

    def files(self, path: str) -> Mapping[str, Path]:
        """Where each node publishes ``path``; empty if that cannot be seen from here."""
