"""Rot on the supernode's volume: what the scrub reads, and what the CDN fetches again."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_pieces.file import PieceFile
from pantala_pieces.scrub import Scrub
from pantala_pieces.verification import FileVerdict, Finding, VerificationPass
from pantala_protocol.statement import CDNStatus
from pantala_supernode.supernode import PieceInspector
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from tests.support.cdn import TASK, CDNBench
from tests.support.eventually import eventually
from tests.support.source import Content, FakeReader, Step

PIECE = 128 * 1024
CONTENT = Content(random.Random(0).randbytes(3 * PIECE + 1), '"v1"')
ORDER = FetchOrder(TASK, FileSource("http://origin/file"))


class Bench(CDNBench):
    def __init__(self, directory: Path, content: Content = CONTENT, *steps: Step) -> None:
        self.source = FakeReader(content, steps)
        super().__init__(directory, self.source)
        self.inspector = PieceInspector(self.store, self.cdn, wall=lambda: self.now)
        self.scrub = Scrub(self.inspector, busy=self.cdn.gate.busy, wall=lambda: self.now)

    def rot(self, position: int) -> None:
        file = self.store.get(TASK)
        assert file is not None
        with file.path.open("r+b") as data:
            data.seek(position)
            data.write(bytes([CONTENT.data[position] ^ 1]))

    async def pass_a_week(self) -> None:
        self.now += 8 * 86400
        self.scrub.wake()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(tmp_path) as bench:
        bench.cdn.trigger(ORDER)
        await bench.whole(CONTENT.data)
        scrubbing = asyncio.create_task(bench.scrub.run())
        bench.source.sent = 0
        yield bench
        scrubbing.cancel()
        await asyncio.gather(scrubbing, return_exceptions=True)
        await bench.inspector.close()


async def test_a_rotten_piece_is_found_after_a_week_and_read_from_the_origin_again(bench: Bench) -> None:
    bench.rot(PIECE + 7)
    await asyncio.sleep(0.1)
    assert 0 == bench.source.sent
    bench.seen.clear()
    await bench.pass_a_week()
    await eventually(lambda: bench.source.sent)
    await bench.whole(CONTENT.data)
    assert 0b1101 == bench.seen[0].cached, "the other pieces stay available"
    assert CDNStatus.SUCCESS is not bench.seen[0].status
    assert bench.source.sent < 3 * PIECE
    assert 1 == bench.scrub.damaged


async def test_rot_in_a_copy_that_no_task_wants_is_repaired_when_one_wants_it(bench: Bench) -> None:
    bench.cdn.retire(TASK)
    bench.rot(0)
    await bench.pass_a_week()
    await eventually(lambda: bench.scrub.damaged)
    assert 0 == bench.source.sent
    assert [] == bench.inspector.candidates()
    bench.cdn.trigger(ORDER)
    await bench.whole(CONTENT.data)


async def test_a_right_copy_is_verified_once_a_week(bench: Bench) -> None:
    for _ in range(2):
        await bench.pass_a_week()
        await eventually(lambda: [bench.now] == [copy.checked for copy in bench.inspector.candidates()])
    assert (0, 0) == (bench.scrub.damaged, bench.source.sent)


async def test_a_copy_that_was_deleted_during_its_pass_is_left_alone(bench: Bench) -> None:
    file = bench.store.get(TASK)
    assert file is not None
    digest = file.meta.digest
    assert bench.inspector.serves(file, digest)
    await bench.cdn.copies.delete(TASK)
    assert not bench.inspector.serves(file, digest)
    await bench.inspector.conclude(file, digest, Finding(FileVerdict.ROTTEN, 1))
    assert 0 == bench.source.sent


@pytest.mark.parametrize("length_known", [True, False])
async def test_an_empty_copy_is_right(tmp_path: Path, *, length_known: bool) -> None:
    async with Bench(tmp_path, Content(b""), Step(length_known=length_known)) as bench:
        bench.cdn.trigger(ORDER)
        await bench.whole(b"")
        (copy,) = bench.inspector.candidates()
        verification = VerificationPass(copy.file, copy.digest)
        assert FileVerdict.RIGHT is (verification.step() or verification.step()).verdict  # type: ignore[union-attr]
        copy.file.path.unlink()  # as in the version before
    async with Bench(tmp_path) as bench:
        (copy,) = bench.inspector.candidates()
        assert b"" == copy.file.path.read_bytes()


async def test_t5_a_hostile_peer_that_accuses_right_pieces_takes_few_threads(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, running, most = list[int](), list[int](), list[int]()
    verified = PieceFile.read_verified

    def counted(file: PieceFile, piece: int) -> bytes | None:
        read.append(piece)
        running.append(piece)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(piece)
        return verified(file, piece)

    monkeypatch.setattr(PieceFile, "read_verified", counted)
    for _ in range(50):
        for piece in range(4):
            bench.inspector.inspect(TASK, piece)
        await asyncio.sleep(0.005)
    await eventually(lambda: len(read) >= 4)
    assert [0, 1, 2, 3] == sorted(read), "each piece was read once"
    assert 2 == max(most)
    assert 0 == bench.source.sent
