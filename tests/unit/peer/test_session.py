"""The exchange loses no report, whatever is lost, repeated or reordered on the way."""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from msgspec import structs

from pantala_peer.sync.session import PeerIdentity, SupernodeSession, SyncOrders
from pantala_protocol import ranges
from pantala_protocol.images import NodeOrders, PullPhase, PullState, RuntimeState
from pantala_protocol.membership import Member, Membership
from pantala_protocol.sync import (
    Assignment,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    Held,
    PieceFailure,
    SyncAnswer,
    SyncRequest,
    Wanted,
    Work,
)
from tests.support.peer import node_state

ME = PeerIdentity("node", "boot-p", "zone", "0.1.0", 4, 8)
PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)
TASK, OTHER = "a" * 64, "b" * 64


def begin(session: SupernodeSession, held: dict[str, Held] | None = None, *, leaving: bool = False) -> SyncRequest:
    return session.begin(node_state(held), leaving=leaving)


def met(revision: int = 0) -> SupernodeSession:
    """A session that the supernode "s" answered once."""
    session = SupernodeSession(ME)
    session.answered(begin(session).seq, SyncAnswer("s", 1, key="aa", revision=revision))
    return session


def assigned(*uids: str) -> tuple[Assignment, ...]:
    return (Assignment(TASK, "g", deliveries=tuple(Delivery(uid, uid) for uid in uids)),)


def test_the_first_exchange_states_the_inventory() -> None:
    held = {TASK: Held("g", "0-3")}
    assert held == begin(SupernodeSession(ME), held).inventory


def test_reports_leave_with_one_exchange_and_are_not_said_twice() -> None:
    session = met()
    failure = PieceFailure(TASK, 7, "node-2", "stalled")
    session.piece_done(TASK, "g", 1)
    session.piece_done(TASK, "g", 2)
    session.piece_failed(failure)
    session.delivery("u", PUBLISHED)
    request = begin(session)
    assert {TASK: Held("g", "1-2")} == request.done
    assert (failure,) == request.failures
    assert {"u": PUBLISHED} == request.deliveries
    assert request.inventory is None
    assert not session.has_news
    session.answered(request.seq, SyncAnswer("s", request.seq))
    empty = begin(session)
    assert ({}, (), {}) == (empty.done, empty.failures, empty.deliveries)


def test_a_done_piece_of_another_generation_replaces_the_former_ones() -> None:
    session = met()
    session.piece_done(TASK, "old", 1)
    session.piece_done(TASK, "new", 2)
    assert {TASK: Held("new", "2")} == begin(session).done


def test_there_are_at_most_two_exchanges_and_the_second_one_has_news() -> None:
    session = met()
    assert session.may_begin
    begin(session)
    assert not session.may_begin
    session.piece_done(TASK, "g", 0)
    assert session.may_begin
    begin(session)
    session.piece_done(TASK, "g", 1)
    assert not session.may_begin


def test_nothing_overtakes_an_inventory() -> None:
    session = SupernodeSession(ME)
    request = begin(session)
    session.piece_done(TASK, "g", 0)
    assert not session.may_begin
    session.answered(request.seq, SyncAnswer("s", request.seq))
    assert session.may_begin


def test_an_unchanged_delivery_is_not_reported_again() -> None:
    session = met()
    session.delivery("u", PUBLISHED)
    begin(session)
    session.delivery("u", PUBLISHED)
    session.delivery("v", None)
    assert not session.has_news
    session.delivery("u", None)
    assert {"u": None} == begin(session).deliveries


def test_another_supernode_is_told_everything() -> None:
    session = met(revision=3)
    session.delivery("u", PUBLISHED)
    session.answered(begin(session).seq, SyncAnswer("s", 2))
    session.answered(begin(session).seq, SyncAnswer("another", 3))
    request = begin(session, {TASK: Held("g", "0")})
    assert ("another", 0) == (request.supernode, request.revision)
    assert {TASK: Held("g", "0")} == request.inventory
    assert {"u": PUBLISHED} == request.deliveries


def test_what_the_node_waits_for_is_in_each_exchange_and_news_when_it_changes() -> None:
    session = met()
    wanted = Wanted("r", "a", "sha256:0")
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


def test_a_supernode_that_wants_the_inventory_gets_it() -> None:
    session = met()
    session.answered(begin(session).seq, SyncAnswer("s", 2, inventory_wanted=True))
    assert session.has_news
    assert begin(session, {TASK: Held("g", "0")}).inventory is not None


def test_assignments_are_taken_once_and_the_newest_stay() -> None:
    session = met()
    held, news = begin(session), None
    session.piece_done(TASK, "g", 0)
    news = begin(session)
    new = SyncAnswer("s", news.seq, revision=6, assignments=assigned("u"))
    assert SyncOrders(assigned("u"), ()) == session.answered(news.seq, new)
    late = SyncAnswer("s", held.seq, revision=5, assignments=())
    assert SyncOrders(None, ()) == session.answered(held.seq, late)
    assert session.revision == 6


def test_a_count_of_revisions_that_began_anew_is_noticed() -> None:
    session = met()
    session.answered(begin(session).seq, SyncAnswer("s", 2, revision=9, assignments=assigned("u")))
    lower = SyncAnswer("s", 3, revision=1, assignments=assigned("v"))
    assert SyncOrders(None, ()) == session.answered(begin(session).seq, lower)
    request = begin(session)
    assert request.revision == 0
    assert SyncOrders(assigned("v"), ()) == session.answered(request.seq, lower)


def test_a_delivery_is_stated_again_when_the_supernode_begins_to_name_it() -> None:
    """A supernode that restarted does not know yet, at the time of the inventory, which task a delivery is of."""
    session = met()
    session.delivery("u", PUBLISHED)
    session.answered(begin(session).seq, SyncAnswer("s", 2))
    session.answered(begin(session).seq, SyncAnswer("s", 3, revision=1, assignments=assigned("u", "w")))
    assert {"u": PUBLISHED} == begin(session).deliveries


def test_work_is_handed_on_and_an_answer_counts_once() -> None:
    session = met()
    work = Work(TASK, "g", 0, 0, 1, "00", "h", 1, "t")
    request = begin(session)
    assert SyncOrders(None, (work,)) == session.answered(request.seq, SyncAnswer("s", request.seq, work=(work,)))
    assert SyncOrders(None, ()) == session.answered(request.seq, SyncAnswer("s", request.seq, work=(work,)))


def test_an_exchange_that_is_not_taken_is_said_in_another_way() -> None:
    session = met()
    failure = PieceFailure(TASK, 7, "", "missing")
    session.piece_failed(failure)
    session.delivery("u", PUBLISHED)
    session.abandon(begin(session).seq)
    request = begin(session, {TASK: Held("g", "0")})
    assert (failure,) == request.failures
    assert {"u": PUBLISHED} == request.deliveries
    assert request.inventory is not None


def test_the_key_stays_until_another_one_is_told() -> None:
    session = met()
    assert session.key == b"\xaa"
    session.answered(begin(session).seq, SyncAnswer("s", 2))
    assert session.key == b"\xaa"
    session.answered(begin(session).seq, SyncAnswer("s", 3, key="bb"))
    assert session.key == b"\xbb"


def test_sessions_of_one_process_never_share_a_number() -> None:
    """Two of them may reach the same supernode, which tells exchanges apart by it."""
    numbers = itertools.count(1)
    one, other = SupernodeSession(ME, numbers), SupernodeSession(ME, numbers)
    assert [1, 2] == [begin(one).seq, begin(other).seq]
    one.answered(1, SyncAnswer("s", 1))
    assert 3 == begin(one).seq
    assert not one.is_latest(2)


def test_what_is_not_urgent_goes_with_the_next_exchange() -> None:
    session = met()
    session.delivery("u", PUBLISHED, urgent=False)
    assert not session.has_news
    assert {"u": PUBLISHED} == begin(session).deliveries
    assert {} == begin(session).deliveries


def test_what_is_held_is_said_of_a_task_that_the_supernode_begins_to_assign() -> None:
    """It kept nothing of the inventory but its own tasks."""
    session, held = met(), {TASK: Held("g", "0-3"), OTHER: Held("g", "0")}
    session.answered(begin(session).seq, SyncAnswer("s", 2, revision=1, assignments=(Assignment(OTHER, "g"),)))
    assert {OTHER: Held("g", "0")} == begin(session, held).done
    both = (Assignment(OTHER, "g"), *assigned("u"))
    session.answered(3, SyncAnswer("s", 3, revision=2, assignments=both))
    assert session.has_news
    assert {TASK: Held("g", "0-3")} == begin(session, held).done
    assert {} == begin(session, held).done


def test_who_there_is_and_what_it_can_bear_is_passed_on() -> None:
    session, all_there_are = met(), Membership(1, (Member("s-0", "http://s-0"),))
    request = begin(session)
    assert (4, 8) == (request.downloads, request.upload_slots)
    answer = SyncAnswer("s", request.seq, revision=1, assignments=(), membership=all_there_are)
    assert SyncOrders((), (), all_there_are) == session.answered(request.seq, answer)


class Supernode:
    """Applies what it is told; forgets all when it restarts."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.met = False
        self.held = 0
        self.delivery: DeliveryState | None = None

    def take(self, request: SyncRequest) -> SyncAnswer:
        if request.inventory is not None:
            self.met = True
            self.held = ranges.parse(request.inventory[TASK].pieces) if TASK in request.inventory else 0
            self.delivery = None
        if TASK in request.done:
            self.held |= ranges.parse(request.done[TASK].pieces)
        if "u" in request.deliveries:
            self.delivery = request.deliveries["u"]
        return SyncAnswer(self.boot, request.seq, inventory_wanted=not self.met)


class ExchangeOnABadNetwork(RuleBasedStateMachine):
    """Requests arrive late, twice or never at a supernode that restarts; answers are lost or come in any order."""

    requests = Bundle("requests")
    answers = Bundle("answers")

    @initialize()
    def start(self) -> None:
        self.session = SupernodeSession(ME)
        self.supernode = Supernode("s0")
        self.boots = 0
        self.held = 0
        self.delivery: DeliveryState | None = None
        self.under_way: dict[int, SyncRequest] = {}

    def _inventory(self) -> dict[str, Held]:
        return {TASK: Held("g", ranges.render(self.held))} if self.held else {}

    def _begin(self) -> SyncRequest:
        request = begin(self.session, self._inventory())
        self.under_way[request.seq] = request
        return request

    @rule(piece=st.integers(min_value=0, max_value=30))
    def finish_a_piece(self, piece: int) -> None:
        self.held |= 1 << piece
        self.session.piece_done(TASK, "g", piece)

    @rule(published=st.booleans())
    def change_the_delivery(self, published: bool) -> None:
        self.delivery = PUBLISHED if published else None
        self.session.delivery("u", self.delivery)

    @rule(target=requests)
    def begin_an_exchange(self) -> SyncRequest | None:
        return self._begin() if self.session.may_begin else None

    @rule(target=answers, request=requests)
    def arrive(self, request: SyncRequest | None) -> SyncAnswer | None:
        """A request reaches the supernode, for the first time or again: the peer repeats what is not answered."""
        if request is None or request.seq not in self.under_way:
            return None
        return self.supernode.take(request)

    @rule(answer=consumes(answers))
    def get_the_answer(self, answer: SyncAnswer | None) -> None:
        if answer is not None and self.under_way.pop(answer.seq, None) is not None:
            self.session.answered(answer.seq, answer)

    @rule(answer=consumes(answers))
    def lose_the_answer(self, answer: SyncAnswer | None) -> None:
        pass

    @rule()
    def restart_the_supernode(self) -> None:
        self.boots += 1
        self.supernode = Supernode(f"s{self.boots}")

    @invariant()
    def at_most_two_are_under_way(self) -> None:
        assert len(self.under_way) <= 2

    def teardown(self) -> None:
        """The network is well again: soon the supernode knows exactly what is so."""
        for _ in range(12):
            for request in sorted(self.under_way.values(), key=lambda request: request.seq):
                answer = self.supernode.take(request)
                del self.under_way[request.seq]
                self.session.answered(request.seq, answer)
            if self.session.may_begin:
                self._begin()
        assert self.held == self.supernode.held
        assert self.delivery == self.supernode.delivery


TestExchangeOnABadNetwork = ExchangeOnABadNetwork.TestCase
TestExchangeOnABadNetwork.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


# Images

STATES = {"ns/web": PullState(PullPhase.READY, 10, "run")}
RUNTIME = RuntimeState("containerd", "1.6.20")


def say(session: SupernodeSession, revision: int, boot: str = "s") -> NodeOrders | None:
    request = begin(session)
    return session.answered(request.seq, SyncAnswer(boot, request.seq, images=NodeOrders(revision))).images


def test_the_revision_that_this_supernode_said_is_told_back() -> None:
    session = met()
    assert 0 == begin(session).images
    assert NodeOrders(7) == say(session, 7)
    assert 7 == begin(session).images
    assert say(session, 7) is None
    assert NodeOrders(3) == say(session, 3)  # the operator counts anew


def test_an_answer_that_comes_late_takes_nothing_back() -> None:
    session = met()
    first = begin(session)
    session.report_pulls(STATES)
    second = begin(session)
    assert NodeOrders(8) == session.answered(second.seq, SyncAnswer("s", 3, images=NodeOrders(8))).images
    assert session.answered(first.seq, SyncAnswer("s", 2, images=NodeOrders(7))).images is None
    assert 8 == session.images


def test_how_images_and_runtime_are_is_said_when_it_changed() -> None:
    session = met()
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


def test_progress_waits_for_an_exchange_with_other_news() -> None:
    session = met()
    session.report_pulls(STATES, urgent=False)
    assert not session.has_news
    assert STATES == begin(session).pulls


def test_a_supernode_that_knows_nothing_hears_all_and_says_its_orders_anew() -> None:
    session = met()
    session.report_pulls(STATES)
    session.report_runtime(RUNTIME)
    begin(session)
    assert NodeOrders(7) == say(session, 7)
    assert NodeOrders(7) == say(session, 7, boot="another")
    request = begin(session)
    assert (STATES, RUNTIME) == (request.pulls, request.runtime)


def test_what_a_refused_exchange_carried_goes_into_the_next() -> None:
    session = met()
    session.report_pulls(STATES)
    session.abandon(begin(session).seq)
    assert STATES == begin(session).pulls
