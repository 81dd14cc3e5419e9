"""Bugs in the sender, and files that are deleted or missing."""

import resource
from pathlib import Path
from typing import Any

import pytest

from pantala_pieces.file import PieceFile
from pantala_pieces.transfer.upload import stream
from pantala_pieces.transfer.upload.fetches import FetchState
from pantala_pieces.transfer.upload.listeners import Listeners
from pantala_process.fair import Claim
from tests.support.eventually import eventually
from tests.support.reception import HUGE, SMALL, names, serves
from tests.support.reception import no_thread_is_left as no_thread_is_left
from tests.support.sender_stage import TASK, SenderStage


async def test_a_bug_breaks_one_connection_and_no_thread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(PieceFile):
        def opened(self) -> Any:
            raise RuntimeError("a bug of an upload")

    def lookup(name: str) -> PieceFile | None:
        if name == "b" * 64:
            raise RuntimeError("a bug of the reception")
        return broken if name == "c" * 64 else it.store.get(name)

    it = SenderStage(tmp_path, SMALL, SMALL, slots=1, lookup=lookup)
    made = it.add("c" * 64)
    broken = Broken(made.directory, made.meta, durable=False)
    broken.verify()
    async with it.serving():
        for name in ("b" * 64, "c" * 64) * 2:
            async with it.client() as client:
                client.send(it.native(0, task_id=name))
                assert await client.ended()
            assert await serves(it)
            assert ["piece-reception", "piece-upload-0"] == names()
    printed = capsys.readouterr().out
    assert (2, 2) == (printed.count("Error: a bug of the reception"), printed.count("Error: a bug of an upload"))
    broken.close()


async def test_a_bug_in_the_claim_of_a_task_breaks_one_connection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def claim(task_id: str) -> Claim:
        if task_id != TASK:
            raise RuntimeError("a bug of the claim")
        return Claim()

    it = SenderStage(tmp_path, SMALL, SMALL, claim=claim)
    it.add("b" * 64)
    async with it.serving(), it.client() as client:
        client.send(it.native(0, task_id="b" * 64))
        assert await client.ended()
        assert await serves(it)
        await eventually(lambda: it.fetches == [(0, FetchState.BEGUN), (0, FetchState.SENT)])
    assert 1 == capsys.readouterr().out.count("Error: a bug of the claim")


async def test_a_bug_of_the_whole_reception_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = [RuntimeError("once")]

    def accept(self: Listeners, number: int) -> None:
        if failures:
            raise failures.pop()
        original(self, number)

    original = Listeners.accept
    monkeypatch.setattr(Listeners, "accept", accept)
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving():
        assert await serves(it)
    assert "the reception of requests for pieces failed" in capsys.readouterr().out


async def test_a_reader_finishes_a_file_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE)
    async with it.serving(), it.slow_reader() as slow, it.client() as later:
        it.store.delete(TASK)
        assert 404 == (await later.get(it.native(0))).status
        assert it.content == (await slow.reply()).body
    assert [] == it.missing


@pytest.mark.parametrize("size", [SMALL, 300_000])
@pytest.mark.parametrize("damage", ["removed", "cut"])
async def test_a_missing_data_file_is_reported(tmp_path: Path, size: int, damage: str) -> None:
    it = SenderStage(tmp_path, size, size)
    it.file.close()
    if damage == "removed":
        it.file.path.unlink()
    else:
        it.file.path.write_bytes(b"short")
    async with it.serving(), it.client() as client:
        if damage == "removed" or size == SMALL:
            assert 404 == (await client.get(it.native(0))).status
        else:
            client.send(it.native(0))
            assert await client.broken()
        await eventually(lambda: it.missing == [TASK])
        await eventually(lambda: it.fetches == [(0, FetchState.BEGUN), (0, FetchState.BROKEN)])
    assert (damage == "cut") == it.file.path.exists()


async def test_a_process_without_a_free_descriptor_is_busy_and_keeps_its_pieces(tmp_path: Path) -> None:
    """The supernode used to forget the piece, and asked the peer for its inventory again and again."""
    it = SenderStage(tmp_path, SMALL, SMALL)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with it.serving(), it.client() as client:
        assert 206 == (await client.get(it.native(0))).status  # the connection has been accepted
        it.file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        try:
            assert 503 == (await client.get(it.native(0))).status
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert it.content == (await client.get(it.native(0))).body
    assert [] == it.missing


async def test_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_MOST_OPEN", 3)
    it = SenderStage(tmp_path, SMALL, SMALL)
    others = [f"{number:064x}" for number in range(10)]
    for name in others:
        it.add(name).close()
    it.file.close()
    async with it.serving(), it.client() as client:
        for name in others:
            assert it.content == (await client.get(it.native(0, task_id=name))).body
        opened = [each for each in Path("/proc/self/fd").iterdir() if str(each.resolve()).startswith(str(tmp_path))]
        assert 3 == len(opened)
