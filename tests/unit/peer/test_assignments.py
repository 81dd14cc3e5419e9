"""When what is held is read as a whole: a file before it appears, a blob when its reader has had its time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_peer.cache.pieces import Cache
from pantala_peer.cache.publish import Publisher
from pantala_peer.sync import assignments
from pantala_peer.sync.assignments import Assignments
from pantala_peer.sync.deliveries import Deliveries
from pantala_protocol.sync import Assignment, Delivery, DeliveryState, PieceFailure, Work

TASK = "a" * 64
CONTENT = b"some content"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WORK = Work(TASK, "g", 0, 0, len(CONTENT), SHA256, "h", 1, "t")


class Unheard:
    def piece_done(self, task_id: str, generation: str, piece: int) -> None: ...
    def piece_failed(self, failure: PieceFailure, giver: str) -> None: ...
    def delivery(self, task_id: str, uid: str, state: DeliveryState | None) -> None: ...
    def state_inventory(self, task_id: str) -> None: ...
    def send(self) -> None: ...


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Assignments]:
    """Of which nothing is assigned yet, with the task's one piece on the disk."""
    cache = Cache(tmp_path / "cache")
    made = Assignments(Unheard(), cache, Deliveries(Unheard(), Publisher(tmp_path)))
    await made.open()
    await cache.hold(assigned())
    await cache.put(WORK, memoryview(CONTENT))
    yield made
    cache.close()


def assigned(*deliveries: Delivery) -> Assignment:
    return Assignment(TASK, "g", 1024, len(CONTENT), f"sha256:{SHA256}", deliveries=deliveries)


async def settled(made: Assignments, assignment: Assignment) -> str:
    """Assign, and tell the digest that the whole was found to have."""
    made.assign({TASK: assignment}, complete=True)
    made.touch(TASK)
    while made._settling:
        await asyncio.gather(*made._settling.values())
    file = made._cache.lookup(TASK)
    assert file is not None
    return file.meta.digest


async def test_a_blob_is_read_as_a_whole_a_while_after_its_last_piece(
    held: Assignments, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "" == await settled(held, assigned())
    monkeypatch.setattr(assignments, "_BLOB_REST", 0.0)
    assert f"sha256:{SHA256}" == await settled(held, assigned())


async def test_a_file_is_read_as_a_whole_before_it_appears(held: Assignments, tmp_path: Path) -> None:
    assert f"sha256:{SHA256}" == await settled(held, assigned(Delivery("uid", "there")))
    assert CONTENT == (tmp_path / "files" / "there").read_bytes()
