"""A node with a whole file that the peer publishes."""

import hashlib
import os
from pathlib import Path

import pytest

from pantala_peer.cache.publisher import PublicationRequest, Publisher
from pantala_peer.cache.tree import FileAccess, check_root

TASK, OTHER = "a" * 64, "b" * 64
CONTENT = b"the whole file"


class PublisherNode:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        check_root(root)
        (root / "cache").mkdir(exist_ok=True)
        self.publisher = self.opened()

    def opened(self, access: FileAccess | None = None) -> Publisher:
        publisher = Publisher(self.root, access)
        publisher.open()
        return publisher

    def source(self, name: str = "data", content: bytes = CONTENT) -> Path:
        path = self.root / "cache" / name
        if not path.exists():
            path.write_bytes(content)
        return path

    def publish(self, path: str, task: str = TASK, name: str = "data", content: bytes = CONTENT) -> None:
        self.publisher.publish(
            PublicationRequest(path, task, self.source(name, content), hashlib.sha256(content).hexdigest())
        )

    def tree(self) -> list[str]:
        return sorted(str(path.relative_to(self.files)) for path in self.files.rglob("*"))


@pytest.fixture
def node(tmp_path: Path) -> PublisherNode:
    return PublisherNode(tmp_path / "root")


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory: type and mode, content or target."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        target = os.fsencode(path.readlink()) if path.is_symlink() else b""
        found[str(path)] = (status.st_mode, target or (path.read_bytes() if path.is_file() else b""))
    return found


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
