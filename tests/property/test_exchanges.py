"""No report is lost, even if exchanges are lost, repeated or reordered."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pantala_peer.sync.session import SupernodeSession
from pantala_protocol import ranges
from pantala_protocol.sync import DeliveryState, DeliveryStatus, HeldPieces, SyncAnswer, SyncRequest
from tests.support.examples import examples
from tests.support.peer import IDENTITY, node_state

PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)
TASK = "a" * 64


class Supernode:
    """Applies each exchange, and forgets everything when it restarts."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.knows_peer = False
        self.held = 0
        self.delivery: DeliveryState | None = None

    def take(self, request: SyncRequest) -> SyncAnswer:
        if request.inventory is not None:
            self.knows_peer = True
            self.held = ranges.parse(request.inventory[TASK].pieces) if TASK in request.inventory else 0
            self.delivery = None
        if TASK in request.done:
            self.held |= ranges.parse(request.done[TASK].pieces)
        if "u" in request.deliveries:
            self.delivery = request.deliveries["u"]
        return SyncAnswer(self.boot, request.seq, inventory_wanted=not self.knows_peer)


class ExchangeOnABadNetwork(RuleBasedStateMachine):
    """Requests arrive late, twice or never, and the supernode restarts. Answers are lost or arrive in any order."""

    requests = Bundle("requests")
    answers = Bundle("answers")

    @initialize()
    def start(self) -> None:
        self.session = SupernodeSession(IDENTITY)
        self.supernode = Supernode("s0")
        self.boots = 0
        self.held = 0
        self.delivery: DeliveryState | None = None
        self.under_way: dict[int, SyncRequest] = {}

    def _inventory(self) -> dict[str, HeldPieces]:
        return {TASK: HeldPieces("g", ranges.render(self.held))} if self.held else {}

    def _begin(self) -> SyncRequest:
        request = self.session.begin(node_state(self._inventory()), leaving=False)
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
        """A request reaches the supernode, perhaps again, because the peer repeats it until it is answered."""
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
        """The network works again. Soon the supernode knows the exact state."""
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
TestExchangeOnABadNetwork.settings = settings(max_examples=examples(100), stateful_step_count=30)
