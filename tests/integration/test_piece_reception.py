"""What the sender does with clients that are many, slow, silent or gone, with bugs, and at its end."""

import asyncio
import contextlib
import random
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pantala_pieces.file import PieceFile
from pantala_pieces.transfer.channel import Channel
from pantala_pieces.transfer.upload import reception, stream
from pantala_pieces.transfer.upload.connection import InboundConnection
from pantala_pieces.transfer.upload.fetches import FetchState
from pantala_pieces.transfer.upload.parking import Parking
from pantala_pieces.transfer.upload.queue import Upload
from pantala_process.fair import Claim
from pantala_protocol import ticket
from pantala_supernode.origin.limits import Rate
from tests.support.eventually import eventually
from tests.support.sender_stage import GENERATION, KEY, TASK, SenderStage

SMALL = 1000
HUGE = 24 * 1024 * 1024
"""More than the kernel takes for a client that does not read."""
WINDOW = 4096


def names() -> list[str]:
    return sorted(each.name for each in threading.enumerate() if each.name.startswith("piece-"))


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [] == names()


async def test_requests_get_slots_in_their_order_or_a_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "writable", True)
    it = SenderStage(tmp_path, HUGE, HUGE // 4, slots=1)
    begins = [f"bytes={first}-{first + 9}" for first in range(0, HUGE, HUGE // 4)]
    async with it.serving(), it.client(window=WINDOW) as slow, AsyncExitStack() as stack:
        slow.send(it.native(0, Range=f"bytes=0-{HUGE - 1}"))
        await eventually(lambda: it.sender.uploads == 1)
        begun = time.monotonic()
        waiting = [await stack.enter_async_context(it.client()) for _ in range(3)]
        for client in waiting:
            client.send(it.native(0, Range=begins[0]))
        replies = [await client.reply() for client in waiting]
        assert {(503, "1")} == {(reply.status, reply.field("Retry-After")) for reply in replies}
        assert 1.9 < time.monotonic() - begun < 10
        monkeypatch.setattr(reception, "_SLOT_TIMEOUT", 20.0)
        for number in (2, 0, 1):
            waiting[number].send(it.native(0, Range=begins[number + 1]))
            await asyncio.sleep(0.02)
        assert it.content == (await slow.reply()).body
        assert [206, 206, 206] == [(await client.reply()).status for client in waiting]
        sent = await eventually(lambda: _sent(it) if len(_sent(it)) == 4 else None)
    assert [0, 3, 1, 2] == sent
    assert 3 == [state for _, state in it.fetches].count(FetchState.BROKEN)


def _states(it: SenderStage) -> list[FetchState]:
    return [state for _, state in it.fetches]


def _sent(it: SenderStage) -> list[int]:
    return [piece for piece, state in it.fetches if state is FetchState.SENT]


async def test_a_reader_that_is_too_slow_loses_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PATIENCE", 0.5)
    monkeypatch.setattr(stream, "_MIN_RATE", HUGE)
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    async with it.serving(), it.client(window=WINDOW) as slow, it.client() as other:
        slow.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 1)
        await eventually(lambda: it.sender.uploads == 0)
        await eventually(lambda: it.fetches == [(0, FetchState.BEGUN), (0, FetchState.BROKEN)])
        assert 0 == it.sender.bytes_sent
        assert it.content[:10] == (await other.get(it.native(0, Range="bytes=0-9"))).body


async def test_a_client_that_goes_before_the_first_byte_is_not_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL, pace=lambda _: 0.3)
    async with it.serving(), it.client() as first:
        assert it.content == (await first.get(it.native(0))).body
        async with it.client() as client:
            client.send(it.native(0))
            await eventually(lambda: it.fetches.count((0, FetchState.BEGUN)) == 2)
        await eventually(lambda: it.fetches.count((0, FetchState.BROKEN)) == 1)
    assert (SMALL, []) == (it.sender.bytes_sent, it.missing)
    assert "bug" not in capsys.readouterr().out


async def test_thousands_of_idle_connections_cost_nothing(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 14), hard))
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving(), AsyncExitStack() as stack:
        for number in range(2000):
            idle = await stack.enter_async_context(it.client())
            if number % 2:
                idle.send(b"GET /")
        async with it.client() as client:
            assert it.content == (await client.get(it.native(0))).body
            begun = time.process_time()
            await asyncio.sleep(2.0)
            assert time.process_time() - begun < 0.2
            assert it.content == (await client.get(it.native(0))).body


async def test_connections_beyond_the_limit_are_closed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    async with it.serving(share=2.5 / limit), it.client() as first, it.client() as second:
        assert it.content == (await first.get(it.native(0))).body
        assert it.content == (await second.get(it.native(0))).body
        for _ in range(3):
            async with it.client() as third:
                assert await third.ended()
        assert it.content == (await first.get(it.native(0))).body
        first.writer.close()
        await eventually(lambda: _serves(it))
    assert 1 == capsys.readouterr().out.count("too many connections")


async def _serves(it: SenderStage) -> bool:
    async with it.client() as client:
        try:
            return (await client.get(it.native(0))).status == 206
        except (EOFError, ConnectionError):
            return False


async def test_a_silent_client_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "_HEAD_TIMEOUT", 0.2)
    monkeypatch.setattr(reception, "FIRST_REQUEST", 3.0)
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving(), it.client() as idle, it.client() as half, it.client() as piped:
        begun = time.monotonic()
        half.send(b"GET /")
        piped.send(it.native(0), b"GET /")
        assert it.content == (await piped.reply()).body
        assert await half.ended()
        assert await piped.ended()
        assert time.monotonic() - begun < 2.9
        assert await idle.ended()
        assert time.monotonic() - begun >= 2.9


async def test_a_client_that_reads_no_refusal_is_closed(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving(), it.client(window=WINDOW) as client:
        bad = it.native(9) * 100

        async def flood() -> None:
            while True:
                client.send(bad)
                await client.writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(), 20)
        assert await _serves(it)


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
            assert await _serves(it)
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
        assert await _serves(it)
        await eventually(lambda: it.fetches == [(0, FetchState.BEGUN), (0, FetchState.SENT)])
    assert 1 == capsys.readouterr().out.count("Error: a bug of the claim")


async def test_a_bug_of_the_whole_reception_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = [RuntimeError("once")]

    def accept(self: reception.Reception, listener: Any) -> None:
        if failures:
            raise failures.pop()
        original(self, listener)

    original = reception.Reception._accept
    monkeypatch.setattr(reception.Reception, "_accept", accept)
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving():
        assert await _serves(it)
    assert "the reception of requests for pieces failed" in capsys.readouterr().out


async def test_a_reader_finishes_a_file_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE)
    async with it.serving(), it.client(window=WINDOW) as slow, it.client() as later:
        slow.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 1)
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


async def test_a_running_upload_ends_before_the_sender_and_an_idle_connection_does_not_delay_it(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE)
    async with it.client_after(it.serving(grace=20)) as (running, slow, idle):
        assert 206 == (await idle.get(it.native(0, Range="bytes=0-9"))).status
        slow.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 1)
        ending = asyncio.create_task(running.aclose())
        assert await idle.ended()
        with pytest.raises(ConnectionError):
            async with it.client():
                pass
        assert not ending.done()
        assert it.content == (await slow.reply()).body
        begun = time.monotonic()
        await ending
        assert time.monotonic() - begun < 5


async def test_an_upload_is_broken_after_the_grace(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    async with it.client_after(it.serving(grace=0.5)) as (running, slow, waiting):
        slow.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 1)
        waiting.send(it.native(0))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await running.aclose()
        assert 0.4 < time.monotonic() - begun < 6
        await eventually(lambda: _states(it).count(FetchState.BROKEN) == _states(it).count(FetchState.BEGUN) >= 2)


async def test_clients_that_break_off_anywhere_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    it = SenderStage(tmp_path, 40 * 100_000, 100_000, slots=3)
    chance = random.Random(1)

    async def misbehave() -> None:
        for _ in range(25):
            async with it.client(window=chance.choice([None, WINDOW])) as client:
                asked = b"".join(chance.choice([it.native, it.wrapped])(chance.randrange(45)) for _ in range(4))
                client.send(asked[: chance.randrange(len(asked))])
                with contextlib.suppress(
                    TimeoutError, EOFError, ConnectionError
                ):  # then its place in the answer is lost
                    for _ in range(chance.randrange(3)):
                        await asyncio.wait_for(client.reply(), 0.1)

    async def behave() -> None:
        async with it.client() as client:
            for piece in range(40):
                reply = await client.get(it.native(piece))
                while reply.status == 503:
                    reply = await client.get(it.native(piece))
                assert it.piece(piece) == reply.body

    before = descriptors()
    async with it.serving():
        at_start = descriptors()
        await asyncio.gather(*(misbehave() for _ in range(10)), *(behave() for _ in range(3)))
        await eventually(lambda: descriptors() <= at_start + 1)  # the data file may stay open
        assert 0 == it.sender.uploads
    assert before >= descriptors()
    await eventually(lambda: [state for _, state in it.fetches].count(FetchState.BEGUN) * 2 == len(it.fetches))
    assert "bug" not in capsys.readouterr().out


async def test_h7_readers_that_do_not_read_take_no_slot_from_others(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE, slots=4)
    async with it.serving(), AsyncExitStack() as stack:
        hostile = [await stack.enter_async_context(it.client(window=WINDOW)) for _ in range(16)]
        for each in hostile:
            each.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 4)
        async with it.client() as honest:
            for _ in range(5):
                begun = time.monotonic()
                reply = await honest.get(it.native(0, Range="bytes=0-99999"))
                assert (206, it.content[:100_000]) == (reply.status, reply.body)
                assert time.monotonic() - begun < 10
        assert it.content == (await hostile[3].reply()).body  # a parked answer goes on, and is whole


async def test_h7_a_parked_answer_is_cut_off_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_PATIENCE", 1.0)
    monkeypatch.setattr(stream, "_MIN_RATE", HUGE)
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    async with it.serving(), it.client(window=WINDOW) as slow, it.client() as other:
        slow.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 1)
        assert 206 == (await other.get(it.native(0, Range="bytes=0-9"))).status
        owner = it.sender._reception
        await eventually(lambda: owner is not None and len(owner._connections) == 1)
        with pytest.raises((ConnectionError, EOFError)):
            await slow.reply()
        assert 0 == it.sender.uploads
        await eventually(lambda: _states(it)[2:] == [FetchState.SENT, FetchState.BROKEN])


async def test_a_parked_answer_stays_one_fetch(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    async with it.serving(), it.client(window=WINDOW) as slow, it.client() as other:
        slow.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 1)
        assert 206 == (await other.get(it.native(0, Range="bytes=0-9"))).status
        assert it.content == (await slow.reply()).body
        await eventually(lambda: len(_sent(it)) == 2)
    assert [FetchState.BEGUN] * 2 + [FetchState.SENT] * 2 == _states(it)


async def test_a_connection_that_is_closed_while_its_answer_is_parked_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of its descriptor may already belong to another connection."""
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    original = InboundConnection.take_back

    def take_back(self: InboundConnection) -> None:
        original(self)
        if self is parked and owner is not None and threading.current_thread().name.startswith("piece-upload"):
            owner.abandon(self)

    async with it.serving(), it.client(window=WINDOW) as slow, it.client() as other:
        owner = it.sender._reception
        assert owner is not None
        slow.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 1)
        (parked,) = (each for each in owner._connections.values() if each.deadline == float("inf"))
        monkeypatch.setattr(InboundConnection, "take_back", take_back)
        assert 206 == (await other.get(it.native(0, Range="bytes=0-9"))).status
        await eventually(lambda: _states(it).count(FetchState.BROKEN) == 1)
        assert {} == owner._parking._parked


async def test_a_parked_answer_has_no_deadline_before_it_is_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reception closes connections with a deadline while the process ends, unless they are parked."""
    deadlines: list[float] = []
    original = Parking.add

    def add(self: Parking, upload: Upload) -> None:
        deadlines.append(upload.connection.deadline)
        original(self, upload)

    monkeypatch.setattr(Parking, "add", add)
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    async with it.serving(), it.client(window=WINDOW) as slow, it.client() as other:
        slow.send(it.native(0))
        await eventually(lambda: it.sender.uploads == 1)
        assert 206 == (await other.get(it.native(0, Range="bytes=0-9"))).status
        assert it.content == (await slow.reply()).body
    assert {float("inf")} == set(deadlines)


async def test_h7_the_client_with_the_most_parked_answers_loses_one(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    async with it.serving(), AsyncExitStack() as stack:
        hostile = [await stack.enter_async_context(it.client(window=WINDOW)) for _ in range(6)]
        owner = it.sender._reception
        assert owner is not None
        owner._parking._most = 3
        for each in hostile:
            each.send(it.native(0))
        async with it.client() as honest:
            await eventually(lambda: len(owner._parking._parked) == 3)
            assert 206 == (await honest.get(it.native(0, Range="bytes=0-9"))).status
        endings = [asyncio.create_task(each.broken()) for each in hostile]
        await asyncio.wait(endings, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert any(ending.done() for ending in endings)
        for ending in endings:
            ending.cancel()
        await asyncio.gather(*endings, return_exceptions=True)


async def test_h7_tenants_get_the_slots_by_their_shares(tmp_path: Path) -> None:
    """Two tenants with the shares 3 and 1 get three bytes and one, however many requests each has."""
    size, rate = 256 * 1024, 8 * 1024 * 1024
    large, small = "a" * 64, "b" * 64
    claims = {large: Claim("large", 3.0), small: Claim("small", 1.0)}
    it = SenderStage(tmp_path, 4 * size, size, slots=2, claim=claims.__getitem__, pace=Rate(rate).reserve)
    it.add(small)
    got = Counter[str]()

    async def read(name: str) -> None:
        async with it.client() as client:
            while True:
                reply = await client.get(it.native(0, task_id=name))
                if reply.status == 206:
                    got[name] += len(reply.body)

    async def ratio() -> float:
        reading = [asyncio.create_task(read(name)) for name in [large] * 6 + [small] * 12]
        await eventually(lambda: sum(got.values()) > rate // 2)
        got.clear()
        await eventually(lambda: sum(got.values()) > 3 * rate)
        found = got[large] / got[small]
        for each in reading:
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        return found

    async with it.serving():
        found = await ratio()
        if found != pytest.approx(3.0, rel=0.1):
            found = await ratio()
    assert 3.0 == pytest.approx(found, rel=0.1)


async def test_h7_invented_marks_do_not_make_tickets_forgotten(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving(), it.client() as client:
        valid = ticket.issue(KEY, TASK, GENERATION, now=time.time())
        for number in range(100):
            assert 206 == (await client.get(it.native(0, **{ticket.HEADER: f"mark{number}-{valid}"}))).status
        assert 1 == len(it.sender._admission._grants)


async def test_h8_new_connections_replace_silent_ones_of_the_same_address(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    async with it.serving(share=100.5 / limit), AsyncExitStack() as stack:
        served = await stack.enter_async_context(it.client())
        assert 206 == (await served.get(it.native(0))).status
        for number in range(150):
            idle = await stack.enter_async_context(it.client())
            if number % 2:
                idle.send(b"GET /")
        async with it.client() as client:
            assert it.content == (await client.get(it.native(0))).body
        assert 206 == (await served.get(it.native(0))).status
