"""When the digest of a whole file is checked: before publication, or for a blob after a minute."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.events import Assigned
from pantala_peer.tasks import assigned as module
from pantala_peer.tasks.assigned import AssignedTasks
from pantala_protocol.sync import Assignment, Delivery, PieceWork
from tests.support.peer import assigned_tasks

TASK = "a" * 64
CONTENT = b"some content"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WORK = PieceWork(TASK, "g", 0, 0, len(CONTENT), SHA256, "h", 1, "t")


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[AssignedTasks]:
    """No task is assigned yet. The task's only piece is on the disk."""
    cache = PieceCache(tmp_path / "cache")
    made = assigned_tasks(tmp_path, cache)
    await made.open()
    await cache.hold(assigned())
    await cache.put(WORK, memoryview(CONTENT))
    yield made
    cache.close()


def assigned(*deliveries: Delivery) -> Assignment:
    return Assignment(TASK, "g", 1024, len(CONTENT), f"sha256:{SHA256}", deliveries=deliveries)


async def settled(made: AssignedTasks, assignment: Assignment) -> str:
    """Assign, and return the digest of the whole file, if it was checked."""
    made._on_assigned(Assigned({TASK: assignment}, complete=True))
    made.touch(TASK)
    while made._settling:
        await asyncio.gather(*made._settling.values())
    file = made._cache.lookup(TASK)
    assert file is not None
    return file.meta.digest


async def test_the_digest_of_a_blob_is_checked_a_while_after_its_last_piece(
    held: AssignedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "" == await settled(held, assigned())
    monkeypatch.setattr(module, "_BLOB_REST", 0.0)
    assert f"sha256:{SHA256}" == await settled(held, assigned())


async def test_the_digest_of_a_file_is_checked_before_publication(held: AssignedTasks, tmp_path: Path) -> None:
    assert f"sha256:{SHA256}" == await settled(held, assigned(Delivery("uid", "there")))
    assert CONTENT == (tmp_path / "files" / "there").read_bytes()
