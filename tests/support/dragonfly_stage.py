"""A supernode for Dragonfly's clients."""

from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.app import PeerApp
from pantala_protocol import task_id
from pantala_protocol.statement import Statement, WantedTask
from tests.support.dragonfly_client import Dfget, GaveUpError
from tests.support.peer_lab import peer
from tests.support.supernode_lab import SupernodeLab

P = 128 * 1024
"""The piece size of small files, as it is cut; on the wire 5 more."""
REGISTRATION = {"rawUrl": "http://a.b/", "cid": "c", "ip": "127.0.0.1", "port": 0, "path": "/f"}
"""What a client must send at least."""


class DragonflyStage(SupernodeLab):
    """A supernode for Dragonfly's clients."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, dragonfly=True, cache_seconds=3600.0, piece_size_rule="swarm")
        self.node = self.url.removeprefix("http://")

    def dfget(self, path: str = "/f", **wishes: Any) -> Dfget:
        return Dfget(self.node, self.origin.url(path), **wishes)

    def from_supernode(self) -> int:
        """The bytes that the supernode itself sent of its file."""
        return self.app.managers.progress.tasks[task_id.compute(self.origin.url("/f"))].supernode_bytes

    def node_with_file(self, root: Path) -> AbstractAsyncContextManager[PeerApp]:
        """A node that gets the file. It fetches no more pieces at once than a client sends."""
        url = self.origin.url("/f")
        wanted = WantedTask("u", "ns/n", task_id.compute(url), url, path="f", peers=("node-1",))
        self.app.supernode.state(Statement(1, (wanted,)))
        return peer(self.url, root, downloads=4)


async def code_of(giving_up: Awaitable[object]) -> int:
    """The code with which a client gives up."""
    with pytest.raises(GaveUpError) as gave_up:
        await giving_up
    return gave_up.value.code


WAYS = [("p2p", False), ("cdn", False), ("p2p", True), ("cdn", True)]
