"""What a peer reports to one supernode, in which exchange, and what it applies of the answers."""

import itertools
from typing import Any

import msgspec
import pytest
from msgspec import structs

from pantala_peer.sync.session import SupernodeSession
from pantala_protocol.images import NodeOrders, PullPhase, PullState, RuntimeState
from pantala_protocol.sync import (
    MAX_ENTRIES,
    Assignment,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    HeldPieces,
    PieceFailure,
    PieceWork,
    SyncAnswer,
    SyncRequest,
    WantedBlob,
)
from tests.support.peer import IDENTITY, node_state

PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)
TASK, OTHER = "a" * 64, "b" * 64
STATES = {"ns/web": PullState(PullPhase.READY, 10, "run")}
RUNTIME = RuntimeState("containerd", "1.6.20")


def begin(
    session: SupernodeSession, held: dict[str, HeldPieces] | None = None, *, leaving: bool = False
) -> SyncRequest:
    return session.begin(node_state(held), leaving=leaving)


def answer(session: SupernodeSession, boot: str = "s", **fields: Any) -> SyncAnswer:
    """Begin an exchange, and answer it."""
    seq = begin(session).seq
    return session.answered(seq, SyncAnswer(boot, seq, **fields))


@pytest.fixture
def session() -> SupernodeSession:
    """A session that the supernode "s" has answered once."""
    made = SupernodeSession(IDENTITY)
    answer(made, key="aa")
    return made


def assigned(*uids: str) -> tuple[Assignment, ...]:
    return (Assignment(TASK, "g", deliveries=tuple(Delivery(uid, uid) for uid in uids)),)


def test_a_report_is_in_one_exchange_only(session: SupernodeSession) -> None:
    failure = PieceFailure(TASK, 7, "node-2", "stalled")
    session.piece_done(TASK, "g", 1)
    session.piece_done(TASK, "g", 2)
    session.piece_failed(failure)
    session.delivery("u", PUBLISHED)
    request = begin(session)
    assert {TASK: HeldPieces("g", "1-2")} == request.done
    assert (failure,) == request.failures
    assert {"u": PUBLISHED} == request.deliveries
    assert request.inventory is None
    assert not session.has_news
    session.answered(request.seq, SyncAnswer("s", request.seq))
    empty = begin(session)
    assert ({}, (), {}) == (empty.done, empty.failures, empty.deliveries)


def test_more_entries_than_fit_are_reported_in_further_exchanges() -> None:
    """A supernode refuses larger exchanges. So the Tasks of one namespace would stop the work for all others."""
    session = SupernodeSession(IDENTITY)
    names = [f"{number:064x}" for number in range(MAX_ENTRIES + 5)]
    held = dict.fromkeys(names, HeldPieces("g", "0-1"))
    for name in names:
        session.delivery(name, PUBLISHED)
    reported: set[str] = set()
    delivered: set[str] = set()
    exchanges = 0
    while not exchanges or session.has_news:
        request = begin(session, held)
        assert request == msgspec.json.decode(msgspec.json.encode(request), type=SyncRequest)
        reported |= (request.inventory or {}).keys() | request.done.keys()
        delivered |= request.deliveries.keys()
        session.answered(request.seq, SyncAnswer("s", request.seq))
        exchanges += 1
    assert (set(names), set(names)) == (reported, delivered)


def test_a_failed_piece_is_reported_soon_and_a_done_one_with_the_next_exchange(session: SupernodeSession) -> None:
    session.piece_done(TASK, "g", 1)
    assert (True, False) == (session.has_news, session.has_failures)
    session.piece_failed(PieceFailure(TASK, 7, "node-2", "refused"))
    assert (True, True, False) == (session.has_news, session.has_failures, session.has_urgent_news)
    begin(session)
    assert (False, False) == (session.has_news, session.has_failures)


def test_a_done_piece_of_another_generation_replaces_the_former_ones(session: SupernodeSession) -> None:
    session.piece_done(TASK, "old", 1)
    session.piece_done(TASK, "new", 2)
    assert {TASK: HeldPieces("new", "2")} == begin(session).done


def test_at_most_two_exchanges_are_under_way_and_the_second_has_news() -> None:
    session = SupernodeSession(IDENTITY)
    first = begin(session)
    session.piece_done(TASK, "g", 0)
    assert not session.may_begin, "it would overtake the inventory"
    session.answered(first.seq, SyncAnswer("s", first.seq))
    assert session.may_begin
    begin(session)
    assert not session.may_begin
    session.piece_done(TASK, "g", 0)
    assert session.may_begin
    begin(session)
    session.piece_done(TASK, "g", 1)
    assert not session.may_begin


def test_an_unchanged_delivery_is_not_reported_again(session: SupernodeSession) -> None:
    session.delivery("u", PUBLISHED)
    begin(session)
    session.delivery("u", PUBLISHED)
    session.delivery("v", None)
    assert not session.has_news
    session.delivery("u", None)
    assert {"u": None} == begin(session).deliveries


def test_wanted_blobs_are_in_each_exchange_and_are_news_when_they_change(session: SupernodeSession) -> None:
    wanted = WantedBlob("r", "a", "sha256:0")
    session.want({TASK: wanted})
    assert session.has_news
    assert {TASK: wanted} == begin(session).wants
    further = structs.replace(wanted, position=5)
    session.want({TASK: further})
    assert not session.has_news
    assert {TASK: further} == begin(session).wants
    again = structs.replace(further, stalls=1)
    for wants in ({TASK: again}, {TASK: again, OTHER: wanted}, {OTHER: wanted}, {}):
        session.want(wants)
        assert session.has_news
        assert wants == begin(session).wants


def test_assignments_and_orders_are_applied_once_and_the_newest_stay(session: SupernodeSession) -> None:
    held = begin(session)
    session.piece_done(TASK, "g", 0)
    news = begin(session)
    new = SyncAnswer("s", news.seq, revision=6, assignments=assigned("u"), images=NodeOrders(8))
    assert new == session.answered(news.seq, new)
    late = session.answered(held.seq, SyncAnswer("s", held.seq, revision=5, assignments=(), images=NodeOrders(7)))
    assert (None, None) == (late.assignments, late.images)
    assert (6, 8) == (session.revision, session.images)


def test_revisions_that_begin_again_are_noticed(session: SupernodeSession) -> None:
    answer(session, revision=9, assignments=assigned("u"))
    assert answer(session, revision=1, assignments=assigned("v")).assignments is None
    assert session.revision == 0
    assert assigned("v") == answer(session, revision=1, assignments=assigned("v")).assignments


def test_an_answer_counts_once(session: SupernodeSession) -> None:
    work = PieceWork(TASK, "g", 0, 0, 1, "h", 1, "t", digest="00")
    request = begin(session)
    with_work = SyncAnswer("s", request.seq, work=(work,))
    assert [(work,), ()] == [session.answered(request.seq, with_work).work for _ in range(2)]


def test_the_reports_of_a_rejected_exchange_are_in_the_next_one(session: SupernodeSession) -> None:
    failure = PieceFailure(TASK, 7, "", "missing")
    session.piece_failed(failure)
    session.delivery("u", PUBLISHED)
    session.report_pulls(STATES)
    session.abandon(begin(session).seq)
    request = begin(session, {TASK: HeldPieces("g", "0")})
    assert (failure,) == request.failures
    assert {"u": PUBLISHED} == request.deliveries
    assert STATES == request.pulls
    assert request.inventory is not None


def test_the_key_stays_until_another_one_arrives(session: SupernodeSession) -> None:
    assert session.key == b"\xaa"
    answer(session)
    assert session.key == b"\xaa"
    answer(session, key="bb")
    assert session.key == b"\xbb"


def test_sessions_of_one_process_never_share_a_number() -> None:
    """Two sessions may reach the same supernode, which identifies exchanges by their numbers."""
    numbers = itertools.count(1)
    one, other = SupernodeSession(IDENTITY, numbers), SupernodeSession(IDENTITY, numbers)
    assert [1, 2] == [begin(one).seq, begin(other).seq]
    one.answered(1, SyncAnswer("s", 1))
    assert 3 == begin(one).seq
    assert not one.is_latest(2)


def test_a_report_that_is_not_urgent_waits_for_the_next_exchange(session: SupernodeSession) -> None:
    session.delivery("u", PUBLISHED, urgent=False)
    session.report_pulls(STATES, urgent=False)
    assert not session.has_news
    request = begin(session)
    assert ({"u": PUBLISHED}, STATES) == (request.deliveries, request.pulls)
    assert {} == begin(session).deliveries


def test_the_pieces_of_a_newly_assigned_task_are_reported(session: SupernodeSession) -> None:
    """The supernode ignored all other tasks of the inventory."""
    held = {TASK: HeldPieces("g", "0-3"), OTHER: HeldPieces("g", "0")}
    answer(session, revision=1, assignments=(Assignment(OTHER, "g"),))
    assert {OTHER: HeldPieces("g", "0")} == begin(session, held).done
    both = (Assignment(OTHER, "g"), *assigned("u"))
    session.answered(3, SyncAnswer("s", 3, revision=2, assignments=both))
    assert session.has_news
    assert {TASK: HeldPieces("g", "0-3")} == begin(session, held).done
    assert {} == begin(session, held).done


def answer_with(session: SupernodeSession, revision: int, boot: str = "s") -> NodeOrders | None:
    return answer(session, boot, images=NodeOrders(revision)).images


def test_each_exchange_contains_the_last_revision_of_the_orders_about_images(session: SupernodeSession) -> None:
    assert 0 == begin(session).images
    assert NodeOrders(7) == answer_with(session, 7)
    assert 7 == begin(session).images
    assert answer_with(session, 7) is None
    assert NodeOrders(3) == answer_with(session, 3)  # the operator counts again from 1


def test_the_state_of_images_and_runtime_is_reported_after_a_change(session: SupernodeSession) -> None:
    assert (None, None) == (begin(session).pulls, begin(session).runtime)
    session.report_pulls(STATES)
    session.report_runtime(RUNTIME)
    assert session.has_news
    request = begin(session)
    assert (STATES, RUNTIME) == (request.pulls, request.runtime)
    session.report_pulls(dict(STATES))
    session.report_runtime(RUNTIME)
    assert not session.has_news
    assert (None, None) == ((request := begin(session)).pulls, request.runtime)


def test_another_supernode_receives_the_state_of_images_and_may_repeat_its_orders(session: SupernodeSession) -> None:
    session.report_pulls(STATES)
    session.report_runtime(RUNTIME)
    begin(session)
    assert NodeOrders(7) == answer_with(session, 7)
    assert NodeOrders(7) == answer_with(session, 7, boot="another")
    request = begin(session)
    assert (STATES, RUNTIME) == (request.pulls, request.runtime)
