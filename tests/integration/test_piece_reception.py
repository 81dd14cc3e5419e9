"""What the sender does with clients that are many, slow, silent or gone, with bugs, and at its end."""

import asyncio
import contextlib
import random
import resource
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pantala_pieces.transfer.channel import Channel
from pantala_pieces.transfer.upload import reception, stream
from pantala_pieces.transfer.upload.fetches import FetchState
from pantala_protocol import ticket
from tests.support.eventually import eventually
from tests.support.reception import HUGE, SMALL, WINDOW, descriptors, sent, serves, states, until_begun
from tests.support.reception import no_thread_is_left as no_thread_is_left
from tests.support.sender_stage import GENERATION, KEY, TASK, SenderStage


async def test_requests_get_slots_in_their_order_or_a_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "writable", True)
    it = SenderStage(tmp_path, HUGE, HUGE // 4, slots=1)
    begins = [f"bytes={first}-{first + 9}" for first in range(0, HUGE, HUGE // 4)]
    async with it.serving(), it.client(window=WINDOW) as slow, AsyncExitStack() as stack:
        slow.send(it.native(0, Range=f"bytes=0-{HUGE - 1}"))
        await eventually(lambda: it.sender.log.uploads == 1)
        begun = time.monotonic()
        waiting = [await stack.enter_async_context(it.client()) for _ in range(3)]
        for client in waiting:
            client.send(it.native(0, Range=begins[0]))
        replies = [await client.reply() for client in waiting]
        assert {(503, "1")} == {(reply.status, reply.field("Retry-After")) for reply in replies}
        assert 1.9 < time.monotonic() - begun < 10
        monkeypatch.setattr(reception, "_SLOT_TIMEOUT", 20.0)
        known = states(it).count(FetchState.BEGUN)
        for place, number in enumerate((2, 0, 1), 1):
            waiting[number].send(it.native(0, Range=begins[number + 1]))
            await until_begun(it, known + place)
        assert it.content == (await slow.reply()).body
        assert [206, 206, 206] == [(await client.reply()).status for client in waiting]
        order = await eventually(lambda: sent(it) if len(sent(it)) == 4 else None)
    assert [0, 3, 1, 2] == order
    assert 3 == [state for _, state in it.fetches].count(FetchState.BROKEN)


async def test_a_reader_that_is_too_slow_loses_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PATIENCE", 0.5)
    monkeypatch.setattr(stream, "_MIN_RATE", HUGE)
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    async with it.serving(), it.slow_reader(), it.client() as other:
        await eventually(lambda: it.sender.log.uploads == 0)
        await eventually(lambda: it.fetches == [(0, FetchState.BEGUN), (0, FetchState.BROKEN)])
        assert 0 == it.sender.log.bytes_sent
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
    assert (SMALL, []) == (it.sender.log.bytes_sent, it.missing)
    assert "bug" not in capsys.readouterr().out


@pytest.mark.alone
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
        await eventually(lambda: serves(it))
    assert 1 == capsys.readouterr().out.count("too many connections")


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
        assert await serves(it)


async def test_a_running_upload_ends_before_the_sender_and_an_idle_connection_does_not_delay_it(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE)
    async with it.client_after(it.serving(grace=20)) as (running, slow, idle):
        assert 206 == (await idle.get(it.native(0, Range="bytes=0-9"))).status
        slow.send(it.native(0))
        await eventually(lambda: it.sender.log.uploads == 1)
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
        await eventually(lambda: it.sender.log.uploads == 1)
        waiting.send(it.native(0))
        await until_begun(it, 2)
        begun = time.monotonic()
        await running.aclose()
        assert 0.4 < time.monotonic() - begun < 6
        await eventually(lambda: states(it).count(FetchState.BROKEN) == states(it).count(FetchState.BEGUN) >= 2)


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
        await eventually(lambda: 0 == it.sender.log.uploads)
    assert before >= descriptors()
    await eventually(lambda: [state for _, state in it.fetches].count(FetchState.BEGUN) * 2 == len(it.fetches))
    assert "bug" not in capsys.readouterr().out


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
