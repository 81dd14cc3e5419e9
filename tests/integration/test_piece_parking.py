"""Answers of clients that do not read are parked, and tenants share the slots."""

import asyncio
import threading
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pantala_pieces.transfer.upload import stream
from pantala_pieces.transfer.upload.connection import InboundConnection
from pantala_pieces.transfer.upload.fetches import FetchState
from pantala_pieces.transfer.upload.parking import Parking
from pantala_pieces.transfer.upload.queue import Upload
from pantala_process.fair import Claim
from pantala_supernode.origin.limits import Rate
from tests.support.eventually import eventually
from tests.support.reception import HUGE, WINDOW, sent, states
from tests.support.reception import no_thread_is_left as no_thread_is_left
from tests.support.sender_stage import SenderStage


async def test_h7_readers_that_do_not_read_take_no_slot_from_others(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE, slots=4)
    async with it.serving(), AsyncExitStack() as stack:
        hostile = [await stack.enter_async_context(it.client(window=WINDOW)) for _ in range(16)]
        for each in hostile:
            each.send(it.native(0))
        await eventually(lambda: it.sender.log.uploads == 4)
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
    async with it.serving(), it.slow_reader() as slow, it.client() as other:
        assert 206 == (await other.get(it.native(0, Range="bytes=0-9"))).status
        owner = it.sender._reception
        await eventually(lambda: owner is not None and len(owner._connections) == 1)
        with pytest.raises((ConnectionError, EOFError)):
            await slow.reply()
        assert 0 == it.sender.log.uploads
        await eventually(lambda: states(it)[2:] == [FetchState.SENT, FetchState.BROKEN])


async def test_a_parked_answer_stays_one_fetch(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, HUGE, HUGE, slots=1)
    async with it.serving(), it.slow_reader() as slow, it.client() as other:
        assert 206 == (await other.get(it.native(0, Range="bytes=0-9"))).status
        assert it.content == (await slow.reply()).body
        await eventually(lambda: len(sent(it)) == 2)
    assert [FetchState.BEGUN] * 2 + [FetchState.SENT] * 2 == states(it)


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

    async with it.serving(), it.slow_reader(), it.client() as other:
        owner = it.sender._reception
        assert owner is not None
        (parked,) = (each for each in owner._connections.values() if each.deadline == float("inf"))
        monkeypatch.setattr(InboundConnection, "take_back", take_back)
        assert 206 == (await other.get(it.native(0, Range="bytes=0-9"))).status
        await eventually(lambda: states(it).count(FetchState.BROKEN) == 1)
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
    async with it.serving(), it.slow_reader() as slow, it.client() as other:
        assert 206 == (await other.get(it.native(0, Range="bytes=0-9"))).status
        assert it.content == (await slow.reply()).body
    assert {float("inf")} == set(deadlines)


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
