"""The demo's output: a block that changes on a terminal, or plain lines elsewhere."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

MEGABYTE = 1_000_000

_PLAIN_EVERY = 1.0
"""Seconds between two plain lines."""


@dataclass(frozen=True)
class Moment:
    """The progress at one moment."""

    size: int
    origin: int = 0
    """Bytes that the origin sent."""
    supernode: int = 0
    """Bytes that peers received from the supernode."""
    peers: int = 0
    """Bytes that peers received from each other."""
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Bytes that each node has verified."""
    ready: str = "0"
    """The number of nodes that have published the file, from the Task's status."""


class Screen:
    """Prints steps. While its context is entered, it also shows progress."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._last = 0.0

    def say(self, text: str) -> None:
        """Print one step."""
        self.console.print(f"[bold cyan]•[/] {text}", soft_wrap=True)

    def show(self, moment: Moment) -> None:
        """Print the progress."""
        if self._live is not None:
            self._live.update(_block(moment), refresh=True)
        elif time.monotonic() - self._last >= _PLAIN_EVERY:
            self._last = time.monotonic()
            nodes = ", ".join(f"{name} {_share(count, moment.size)}" for name, count in moment.nodes.items())
            self.console.print(
                f"  origin sent {_share(moment.origin, moment.size)}; {nodes or moment.ready + ' nodes ready'}",
                soft_wrap=True,
            )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def megabytes(count: int) -> str:
    """Bytes as ``97.6 MB``."""
    return f"{count / MEGABYTE:.1f} MB"


def _block(moment: Moment) -> Group:
    grid = Table.grid(padding=(0, 2))
    for name, count in {"origin → supernode": moment.origin, **moment.nodes}.items():
        bar = ProgressBar(total=moment.size, completed=min(count, moment.size), width=40)
        grid.add_row(f"  {name}", bar, _share(count, moment.size), megabytes(count))
    supernode, peers = megabytes(moment.supernode), megabytes(moment.peers)
    moved = f"  received {supernode} from the supernode, {peers} from peers"
    return Group(grid, Text(f"{moved}; {moment.ready} nodes ready", "dim"))


def _share(count: int, size: int) -> str:
    return f"{min(count / size, 1.0):4.0%}" if size else "  0%"
