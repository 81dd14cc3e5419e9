"""Removes the peer's cache from a node when Pantala is uninstalled."""

import contextlib
from pathlib import Path

from pantala_peer.cache.publisher import Publisher
from pantala_pieces.errors import store_errors
from pantala_pieces.store import PieceStore


def clear(root: Path) -> int:
    """Remove the pieces of unpublished tasks and the record of image orders. Returns the number of removed tasks.

    Published files stay, with their pieces and records, so a peer that is installed again recognises them. Unfinished
    publications are removed. Blocks. Raises :class:`StoreError`.
    """
    if not root.is_dir():
        return 0
    publisher, store = Publisher(root), PieceStore(root / "cache", durable=False)
    publisher.tidy()
    removed = [file.meta.task_id for file in store.open() if file.meta.task_id not in publisher.tasks()]
    for name in removed:
        store.delete(name)
    with store_errors(f"clear {root}"):
        for name in ("images.json", "images.json.copy", ".images.json.new", ".images.json.copy.new"):
            (root / "cache" / name).unlink(missing_ok=True)
    for folder in (*root.glob("cache/??"), root / "cache", root / "published", root / "files"):
        with contextlib.suppress(OSError):  # the folder is not empty
            folder.rmdir()
    return len(removed)
