"""When a peer sends an exchange: at once with news, else one that is held, and rarely while nothing answers."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable

import pytest

from pantala_peer.errors import ExchangeError, ExchangeRefusedError
from pantala_peer.sync.client import SyncClient
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.session import SupernodeSession
from pantala_protocol import ranges
from pantala_protocol.sync import PieceFailure, PieceWork, SyncAnswer, SyncRequest
from tests.support.peer import IDENTITY, node_state

pytestmark = pytest.mark.virtual_time

TASK = "a" * 64
WORK = PieceWork(TASK, "g", 0, 0, 1, "h", 1, "t", digest="00")
Answer = Callable[[SyncRequest], SyncAnswer | Exception | None]


class FakeConnection(SyncConnection):
    """Answers by a function. After ``None`` it holds the exchange until the next one arrives."""

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
    def __init__(self, connection: FakeConnection) -> None:
        self.session = SupernodeSession(IDENTITY)
        self.connection = connection
        self.orders: list[SyncAnswer] = []
        self.busy = False
        self.left = 0
        self.client = SyncClient(
            self.session,
            connection,
            node_state(busy=lambda: self.busy, left=lambda: self.left),
            apply=self.orders.append,
            rng=random.Random(1),
        )

    def done(self, piece: int) -> None:
        self.session.piece_done(TASK, "g", piece)
        self.client.wake()

    def seqs(self) -> list[int]:
        return [request.seq for request in self.connection.requests]


@contextlib.asynccontextmanager
async def running(answer: Answer | FakeConnection) -> AsyncIterator[Running]:
    made = Running(answer if isinstance(answer, FakeConnection) else FakeConnection(answer))
    task = asyncio.create_task(made.client.run())
    try:
        yield made
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def hold_all_but_the_first(request: SyncRequest) -> SyncAnswer | None:
    return SyncAnswer("s", request.seq) if request.seq == 1 else None


async def test_without_news_one_exchange_is_held_and_news_is_sent_at_once() -> None:
    async with running(hold_all_but_the_first) as it:
        await asyncio.sleep(60)
        assert [1, 2] == it.seqs()
        it.done(0)
        await asyncio.sleep(1)
        assert {TASK} == set(it.connection.requests[2].done)
        assert it.connection.times[2] == pytest.approx(60.0, abs=0.02)
        assert it.connection.under_way == 1


async def test_reports_of_pieces_are_joined_in_15_exchanges_a_second() -> None:
    async with running(lambda r: None if not r.done else SyncAnswer("s", r.seq, work=(WORK,))) as it:
        it.connection.answer = lambda r: SyncAnswer("s", r.seq, work=(WORK,))
        await asyncio.sleep(5)
        it.busy, it.left = True, 4
        before = len(it.connection.requests)
        for piece in range(1000):
            it.done(piece)
            await asyncio.sleep(0.003)
        await asyncio.sleep(0.1)
        assert 40 <= len(it.connection.requests) - before <= 48
        assert it.connection.most_under_way <= 2
        assert not it.session.has_news
        reported = sum(
            len(list(ranges.members(ranges.parse(r.done[TASK].pieces)))) for r in it.connection.requests if r.done
        )
        assert 1000 == reported


async def test_the_supernode_may_ask_for_fewer_exchanges() -> None:
    async with running(lambda r: SyncAnswer("s", r.seq, work=(WORK,), pace=0.25)) as it:
        it.busy, it.left = True, 4
        await asyncio.sleep(1)
        before = len(it.connection.requests)
        for piece in range(1000):
            it.done(piece)
            await asyncio.sleep(0.003)
        assert 11 <= len(it.connection.requests) - before <= 13


async def test_a_peer_with_hardly_any_piece_left_reports_at_once() -> None:
    async with running(lambda r: SyncAnswer("s", r.seq, work=(WORK,))) as it:
        it.busy, it.left = True, 4
        await asyncio.sleep(1.03)  # between two exchanges
        for left, reports in ((3, []), (1, ["1,3"])):
            it.left = left
            it.done(left)
            await asyncio.sleep(0.004)
            assert reports == [request.done[TASK].pieces for request in it.connection.requests if request.done]


async def test_a_failure_is_reported_at_once_together_with_the_pieces() -> None:
    async with running(lambda r: SyncAnswer("s", r.seq, work=(WORK,))) as it:
        it.busy, it.left = True, 4
        await asyncio.sleep(1.03)  # between two exchanges
        it.done(0)
        await asyncio.sleep(0.01)
        it.done(1)
        it.session.piece_failed(PieceFailure(TASK, 2, "", "stalled"))
        it.client.wake()
        await asyncio.sleep(0.005)
        last = it.connection.requests[-1]
        assert (1, "0-1") == (len(last.failures), last.done[TASK].pieces)


async def test_a_supernode_that_does_not_hold_is_not_polled() -> None:
    async with running(lambda request: SyncAnswer("s", request.seq)) as it:
        await asyncio.sleep(1.2)
        assert len(it.connection.requests) <= 4


async def test_an_exchange_that_a_newer_one_released_is_not_a_reason_to_pause() -> None:
    """The supernode can give work only while it holds an exchange."""
    answers = {1: SyncAnswer("s", 1), 3: SyncAnswer("s", 3, work=(WORK,))}
    async with running(lambda request: answers.get(request.seq)) as it:
        await asyncio.sleep(0.2)
        it.done(0)
        await asyncio.sleep(0.2)
        assert [1, 2, 3, 4] == it.seqs()


async def test_while_all_downloads_run_there_is_one_exchange_for_several_pieces() -> None:
    """An exchange is held only if no piece ends for long."""
    async with running(hold_all_but_the_first) as it:
        await asyncio.sleep(0.1)
        it.connection.answer = lambda request: SyncAnswer("s", request.seq, work=(WORK,)) if request.done else None
        it.busy, it.left = True, 4
        before = len(it.connection.requests)
        for piece in range(9):
            it.done(piece)
            await asyncio.sleep(0.025)
        assert 3 <= len(it.connection.requests) - before <= 4
        await asyncio.sleep(0.4)
        assert 1 == it.connection.under_way


async def test_a_supernode_that_gives_work_is_asked_again_at_once() -> None:
    answers = [(WORK,)] * 5
    async with running(lambda r: SyncAnswer("s", r.seq, work=answers.pop()) if answers else None) as it:
        await asyncio.sleep(0.3)
        assert [(WORK,)] * 5 == [orders.work for orders in it.orders]


async def test_an_exchange_without_an_answer_is_repeated_unchanged_with_growing_pauses() -> None:
    async with running(lambda _request: ExchangeError("away")) as it:
        it.done(3)
        await asyncio.sleep(60)
        assert len(set(map(id, it.connection.requests))) == 1
        times = it.connection.times
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert 0.1 <= pauses[0] <= 0.2
        assert all(2.5 <= pause <= 5.0 for pause in pauses[5:])
        assert it.client.error == "away"


async def test_a_rejected_exchange_is_replaced_by_another_one() -> None:
    async with running(lambda r: ExchangeRefusedError("no") if r.seq == 1 else None) as it:
        await asyncio.sleep(0.5)
        assert [1, 2] == it.seqs()
        assert it.connection.requests[1].inventory is not None


async def test_the_farewell_is_one_short_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forever(_request: SyncRequest) -> SyncAnswer:
        await asyncio.sleep(60)
        raise AssertionError

    async with running(hold_all_but_the_first) as it:
        await asyncio.sleep(0.05)
    await it.client.leave()
    assert it.connection.requests[-1].leaving
    monkeypatch.setattr(it.connection, "sync", forever)
    async with asyncio.timeout(4):
        await it.client.leave()


class OneIsLost(FakeConnection):
    """The second exchange is lost, and the client learns that late."""

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


async def test_a_lost_exchange_is_not_an_error_if_the_supernode_has_answered_another_one_since() -> None:
    connection = OneIsLost()
    async with running(connection) as it:
        await asyncio.sleep(0.7)
        assert 1 == connection.lost
        it.done(0)
        await asyncio.sleep(0.1)
        connection.noticed.set()
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert it.client.error is None


class KeptConnection(FakeConnection):
    """Answers after a millisecond without a task, as a kept connection does."""

    def send(self, request: SyncRequest, ended: Callable[[SyncAnswer | ExchangeError | None], None]) -> bool:
        self.requests.append(request)
        answer = self.answer(request)
        assert not isinstance(answer, Exception | None)
        asyncio.get_running_loop().call_later(0.001, ended, answer)
        return True


@pytest.mark.parametrize(("at_once", "expected"), [(True, 2), (False, 3)])
async def test_an_exchange_takes_two_turns_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, at_once: bool, expected: int
) -> None:
    """One sends the news, and one takes the answer. News that others may join need a third."""
    loop = asyncio.get_running_loop()
    turn: Callable[[], None] = loop._run_once  # type: ignore[attr-defined]
    turns = 0

    def done(piece: int) -> None:
        it.session.piece_done(TASK, "g", piece)
        it.client.wake(at_once=at_once)

    def count() -> None:
        nonlocal turns
        turns += 1
        turn()

    async with running(KeptConnection(lambda r: SyncAnswer("s", r.seq, work=(WORK,)))) as it:
        it.busy, it.left = True, 4
        await asyncio.sleep(1)
        before = len(it.connection.requests)
        monkeypatch.setattr(loop, "_run_once", count)
        for piece in range(100):
            loop.call_later(0.07 * piece, done, piece)
        await asyncio.sleep(7)
        assert 99 <= len(it.connection.requests) - before <= 102
        assert 100 * expected <= turns <= 100 * expected + 10


async def test_a_bug_in_a_callback_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Running(KeptConnection(lambda r: SyncAnswer("s", r.seq)))
    monkeypatch.setattr(made.client, "_apply", None)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(made.client.run(), 5)
    assert isinstance(caught.value.exceptions[0], TypeError)


@pytest.mark.parametrize("error", [None, ExchangeError("away"), ExchangeRefusedError("no")])
async def test_an_exchange_that_fails_on_a_kept_connection_is_sent_again(error: ExchangeError | None) -> None:
    class Broken(FakeConnection):
        def send(self, request: SyncRequest, ended: Callable[[SyncAnswer | ExchangeError | None], None]) -> bool:
            if len(self.requests) != 1:
                return False
            self.requests.append(request)
            asyncio.get_running_loop().call_soon(ended, error)
            return True

    connection = Broken(lambda r: SyncAnswer("s", r.seq) if r.seq < 4 else None)
    async with running(connection) as it:
        await asyncio.sleep(1)
        refused = isinstance(error, ExchangeRefusedError)
        assert [1, 2, 3 if refused else 2] == it.seqs()[:3]
        assert it.client.error is None


async def test_a_retired_client_ends_after_the_exchange_under_way() -> None:
    made = Running(KeptConnection(lambda r: SyncAnswer("s", r.seq, work=(WORK,))))
    run = asyncio.create_task(made.client.run())
    await asyncio.sleep(0)
    made.client.retire()
    await asyncio.wait_for(run, 1)
    assert [(WORK,)] == [orders.work for orders in made.orders]
    assert [1] == made.seqs()
