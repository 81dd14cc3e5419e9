"""A published file consists only of pieces that matched the digests of its generation, whatever the disk loses."""

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantala_pieces.journal import RECORD_SIZE
from pantala_protocol import ranges
from pantala_protocol.geometry import Geometry
from tests.support.examples import examples
from tests.support.peer_node import CONTENT, SIZE, Node, assigned

PIECES = Geometry(SIZE, len(CONTENT)).pieces
LOST = b"\xff" * 64

pieces = st.integers(min_value=0, max_value=PIECES - 1)


class Disk:
    """The disk below a root. It may lose everything that was not synced, and a sync may fail."""

    def __init__(self, root: Path, patched: pytest.MonkeyPatch, *, failing: int) -> None:
        self.durable: dict[int, bytes] = {}
        """The synced content of each file, by inode."""
        self._root = root
        self._failing = failing
        self._sync, self._link = os.fdatasync, os.link
        patched.setattr(os, "fdatasync", self._on_sync)
        patched.setattr(os, "link", self._on_link)

    def _on_sync(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.name == "data" and self._failing:
            self._failing -= 1
            self.damage(path, 0)
            raise OSError(errno.EIO, "Input/output error")
        self._sync(fd)
        self.durable[os.fstat(fd).st_ino] = path.read_bytes()

    def _on_link(self, source: Path, *arguments: object, **options: object) -> None:
        assert CONTENT == self.durable.get(source.stat().st_ino), "a file is published before it is durable"
        self._link(source, *arguments, **options)  # type: ignore[arg-type]

    def damage(self, path: Path, piece: int) -> None:
        with path.open("r+b") as data:
            data.seek(piece * SIZE)
            data.write(LOST[: min(len(LOST), len(CONTENT) - piece * SIZE)])

    def cut_power(self, lost: set[int], records: int) -> None:
        """Lose pieces and records that were not synced."""
        for path in self._root.glob("cache/*/*/data"):
            if path.stat().st_ino not in self.durable:
                for piece in lost:
                    if piece * SIZE < path.stat().st_size:
                        self.damage(path, piece)
        for path in self._root.glob("cache/*/*/journal"):
            if path.stat().st_ino not in self.durable:
                os.truncate(path, min(path.stat().st_size, records * RECORD_SIZE))


@settings(max_examples=examples(25), deadline=None)
@given(
    order=st.permutations(range(PIECES)),
    stop=st.integers(min_value=0, max_value=PIECES),
    lost=st.sets(pieces),
    records=st.integers(min_value=0, max_value=PIECES),
    failing=st.integers(min_value=0, max_value=2),
    again=st.permutations(range(PIECES)),
)
def test_a_published_file_has_only_right_pieces(
    order: list[int], stop: int, lost: set[int], records: int, failing: int, again: list[int]
) -> None:
    """Pieces arrive, the power is cut, the node starts again and fetches what it lacks."""

    async def life(root: Path, disk: Disk) -> None:
        node = await _started(root)
        for piece in order[:stop]:
            node.put(piece)
        await node.settle(assigned())
        await node.close()
        published = node.published.exists()
        disk.cut_power(lost, records)
        if published:
            assert CONTENT == node.published.read_bytes(), "programs may read it before the peer starts"
        node = await _started(root)
        await node.settle(assigned())
        await _complete(node, again)
        assert CONTENT == node.published.read_bytes()
        await node.close()

    _run(life, failing=failing)


async def _started(root: Path) -> Node:
    node = Node(root)
    await node.open()
    return node


async def _complete(node: Node, order: list[int]) -> None:
    """Fetch what the node lacks, as a supernode orders it, until the file is published."""
    for _ in range(4):
        held = node.file.have if node.cache.lookup(node.file.meta.task_id) else 0
        for piece in order:
            if piece not in set(ranges.members(held)):
                node.put(piece)
        await node.settle()
        if node.published.exists():
            return
    raise AssertionError("the file was not published")


def _run(life: Callable[[Path, Disk], object], *, failing: int = 0) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        disk = Disk(Path(folder), patched, failing=failing)
        asyncio.run(life(Path(folder), disk))  # type: ignore[arg-type]
