"""When the peer speaks: at once with news, held otherwise, patiently while nobody answers."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import pytest

from pantala_peer.errors import ExchangeError, ExchangeRefusedError
from pantala_peer.sync.client import SyncClient
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.session import PeerIdentity, SupernodeSession, SyncOrders
from pantala_protocol.sync import SyncAnswer, SyncRequest, Work
from tests.support.peer import node_state

TASK = "a" * 64
WORK = Work(TASK, "g", 0, 0, 1, "00", "h", 1, "t")
Answer = Callable[[SyncRequest], SyncAnswer | Exception | None]


class FakeSupernode(SyncConnection):
    """Answers by a function; ``None`` holds the exchange until a newer one comes."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("http://s", token_file=None, timeout=1.0)
        self.answer = answer
        self.requests: list[SyncRequest] = []
        self.times: list[float] = []
        self.under_way = self.most_under_way = 0
        self._newer = asyncio.Event()

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self._newer.set()
        try:
            answer = self.answer(request)
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                newer = self._newer = asyncio.Event()
                await newer.wait()
            return answer or SyncAnswer("s", request.seq)
        finally:
            self.under_way -= 1


class Running:
    """An exchange with a fake supernode, and the orders that it obeyed."""

    def __init__(self, answer: Answer) -> None:
        self.session = SupernodeSession(PeerIdentity("node", "boot", "", "0", 4, 4))
        self.supernode = FakeSupernode(answer)
        self.orders: list[SyncOrders] = []
        self.busy = False
        self.exchange = SyncClient(
            self.session,
            self.supernode,
            node_state(busy=lambda: self.busy),
            apply=self.orders.append,
            rng=random.Random(1),
        )

    def done(self, piece: int) -> None:
        self.session.piece_done(TASK, "g", piece)
        self.exchange.wake()


@contextlib.asynccontextmanager
async def running(answer: Answer) -> AsyncIterator[Running]:
    made = Running(answer)
    task = asyncio.create_task(made.exchange.run())
    try:
        yield made
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def first_at_once(request: SyncRequest) -> SyncAnswer | None:
    return SyncAnswer("s", request.seq) if request.seq == 1 else None


async def test_without_news_one_exchange_is_held() -> None:
    async with running(first_at_once) as it:
        await asyncio.sleep(0.8)
        assert [1, 2] == [request.seq for request in it.supernode.requests]


async def test_news_is_said_at_once_and_releases_the_held_exchange() -> None:
    async with running(first_at_once) as it:
        await asyncio.sleep(0.7)
        it.done(0)
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(0.05)
        assert {TASK} == set(it.supernode.requests[-1].done)
        assert it.supernode.times[-1] - begun < 0.02
        assert it.supernode.under_way == 1


async def test_much_news_is_joined_and_at_most_two_exchanges_are_under_way() -> None:
    async with running(first_at_once) as it:
        await asyncio.sleep(0.05)
        before = len(it.supernode.requests)
        for piece in range(200):
            it.done(piece)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert len(it.supernode.requests) - before <= 40
        assert it.supernode.most_under_way <= 2
        assert not it.session.has_news


async def test_a_supernode_that_does_not_hold_is_not_polled() -> None:
    async with running(lambda request: SyncAnswer("s", request.seq)) as it:
        await asyncio.sleep(1.2)
        assert len(it.supernode.requests) <= 4


async def test_a_supernode_that_is_met_is_asked_again_at_once() -> None:
    """Its first answer tells who it is; what it has to give comes with the next one."""
    async with running(first_at_once) as it:
        await asyncio.sleep(0.2)
        assert [1, 2] == [request.seq for request in it.supernode.requests]


async def test_an_exchange_that_a_newer_one_released_is_no_reason_to_be_quiet() -> None:
    """The supernode can give work only while an exchange is held."""
    answers = {1: SyncAnswer("s", 1), 3: SyncAnswer("s", 3, work=(WORK,))}
    async with running(lambda request: answers.get(request.seq)) as it:
        await asyncio.sleep(0.2)
        it.done(0)
        await asyncio.sleep(0.2)
        assert [1, 2, 3, 4] == [request.seq for request in it.supernode.requests]


async def test_without_room_for_work_one_exchange_a_piece_is_enough() -> None:
    """Each piece's end is said at once; in between nothing is held, unless it takes long."""
    async with running(first_at_once) as it:
        await asyncio.sleep(0.1)
        it.supernode.answer = lambda request: SyncAnswer("s", request.seq, work=(WORK,)) if request.done else None
        it.busy = True
        before = len(it.supernode.requests)
        for piece in range(5):
            it.done(piece)
            await asyncio.sleep(0.05)
        assert 5 == len(it.supernode.requests) - before
        await asyncio.sleep(0.4)
        assert 1 == it.supernode.under_way


async def test_one_that_gives_work_is_asked_again_at_once() -> None:
    answers = [(WORK,)] * 5
    async with running(lambda r: SyncAnswer("s", r.seq, work=answers.pop()) if answers else None) as it:
        await asyncio.sleep(0.3)
        assert [(WORK,)] * 5 == [orders.work for orders in it.orders]


async def test_an_exchange_without_answer_is_repeated_unchanged_and_ever_more_rarely() -> None:
    async with running(lambda _request: ExchangeError("away")) as it:
        it.done(3)
        await asyncio.sleep(2.5)
        assert len(set(map(id, it.supernode.requests))) == 1
        pauses = [after - before for before, after in zip(it.supernode.times, it.supernode.times[1:], strict=False)]
        assert 3 <= len(pauses) <= 6
        assert 0.09 < pauses[0] < 0.3
        assert pauses[-1] > pauses[0]
        assert it.exchange.error == "away"


async def test_an_exchange_that_is_refused_is_made_anew() -> None:
    async with running(lambda r: ExchangeRefusedError("no") if r.seq == 1 else None) as it:
        await asyncio.sleep(0.5)
        first, second = it.supernode.requests
        assert (1, 2) == (first.seq, second.seq)
        assert second.inventory is not None


async def test_leaving_is_said_once_and_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantala_peer.sync.client._FAREWELL", 0.3)

    async def forever(request: SyncRequest) -> SyncAnswer:
        await asyncio.sleep(60)
        raise AssertionError

    async with running(first_at_once) as it:
        await asyncio.sleep(0.05)
    await it.exchange.leave()
    assert it.supernode.requests[-1].leaving
    it.supernode.sync = forever  # type: ignore[method-assign]
    async with asyncio.timeout(4):
        await it.exchange.leave()


class OneIsLost(FakeSupernode):
    """The second exchange has no answer, and that shows late."""

    def __init__(self) -> None:
        super().__init__(lambda _request: None)
        self.noticed = asyncio.Event()
        self.lost = 0

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        if request.seq == 2 and not self.lost:
            self.lost += 1
            await self.noticed.wait()
            raise ExchangeError("no answer in time")
        if request.seq <= 3:
            return SyncAnswer("s", request.seq)
        return await super().sync(request)


async def test_an_exchange_that_is_lost_says_nothing_of_a_supernode_that_answered_another_since() -> None:
    made = Running(lambda _request: None)
    lost = made.supernode = OneIsLost()
    made.exchange._connection = lost
    task = asyncio.create_task(made.exchange.run())
    await asyncio.sleep(0.7)
    assert 1 == lost.lost
    made.done(0)
    await asyncio.sleep(0.1)
    lost.noticed.set()
    for _ in range(20):
        await asyncio.sleep(0.01)
        assert made.exchange.error is None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
