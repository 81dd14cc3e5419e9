"""What several supernodes assign counts together, and a move between them takes nothing away."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pantala_peer.sync.assignment_set import AssignmentSet, is_valid
from pantala_protocol.membership import Member, Membership
from pantala_protocol.sync import Assignment, Delivery

TASKS = [f"{number:x}" * 64 for number in range(10)]
TASK, OTHER = TASKS[:2]
NAMES = ("s-0", "s-1", "s-2")
DIGEST = "sha256:" + "0" * 64


def membership(revision: int, *names: str) -> Membership:
    return Membership(revision, tuple(Member(name, f"http://{name}") for name in names))


def of_three(revision: int = 1) -> AssignmentSet:
    claims = AssignmentSet()
    assert claims.join(membership(revision, *NAMES))
    return claims


def test_a_supernode_that_is_alone_has_the_only_say() -> None:
    claims = AssignmentSet()
    before = claims.complete
    claims.update("", [Assignment(TASK, "g")], revision=0)
    assert (False, True) == (before, claims.complete)
    assert {TASK: Assignment(TASK, "g")} == claims.joined()
    claims.update("", [], revision=0)
    assert {} == claims.joined()


def test_all_that_anybody_assigns_is_assigned() -> None:
    claims = of_three()
    claims.update("s-0", [Assignment(TASK, "g")], revision=1)
    claims.update("s-2", [Assignment(OTHER, "h")], revision=1)
    assert {TASK: Assignment(TASK, "g"), OTHER: Assignment(OTHER, "h")} == claims.joined()
    assert ["s-0"] == list(claims.owners(TASK))


def test_nothing_is_unwanted_before_every_member_spoke() -> None:
    claims = of_three()
    for name in NAMES:
        assert not claims.complete
        claims.update(name, [], revision=1)
    assert claims.complete


def test_who_spoke_before_the_membership_was_told_speaks_again() -> None:
    """A task that moved is assigned by whom it moved to; that one's word may be the last."""
    claims = of_three()
    for name in NAMES:
        claims.update(name, [Assignment(TASK, "g")] if name == "s-0" else [], revision=1)
    assert claims.join(membership(2, *NAMES))
    claims.update("s-0", [], revision=2)
    claims.update("s-1", [], revision=1)
    claims.update("s-2", [], revision=2)
    before = claims.complete
    claims.update("s-1", [Assignment(TASK, "g")], revision=2)
    assert (False, True) == (before, claims.complete)
    assert {TASK} == claims.joined().keys()


def test_the_membership_with_the_greatest_revision_holds() -> None:
    claims = of_three(5)
    assert not claims.join(membership(4, "s-0"))
    assert not claims.join(membership(5, "s-0"))
    assert 3 == len(claims.membership.members if claims.membership else ())


def test_without_members_nothing_is_unwanted() -> None:
    claims = of_three()
    claims.update("s-0", [], revision=1)
    claims.join(membership(2))
    assert not claims.complete


def test_who_left_has_no_say() -> None:
    claims = of_three()
    claims.update("s-0", [Assignment(TASK, "g")], revision=1)
    claims.update("s-1", [Assignment(TASK, "g"), Assignment(OTHER, "g")], revision=1)
    claims.remove("s-1")
    assert {TASK} == claims.joined().keys()
    assert {"s-0"} == claims.supernodes


def test_of_two_contents_the_one_assigned_first_stays_until_it_is_taken_back() -> None:
    claims = of_three()
    first, second = Assignment(TASK, "g", 4, 8, DIGEST), Assignment(TASK, "h", 4, 9)
    claims.update("s-1", [first], revision=1)
    claims.update("s-0", [second], revision=1)
    assert first == claims.joined()[TASK]
    claims.update("s-1", [], revision=1)
    assert second == claims.joined()[TASK]


def test_who_does_not_know_the_content_yet_does_not_hide_it() -> None:
    claims = of_three()
    claims.update("s-0", [Assignment(TASK, "")], revision=1)
    claims.update("s-1", [Assignment(TASK, "g", 4, 8)], revision=1)
    assert Assignment(TASK, "g", 4, 8) == claims.joined()[TASK]


def test_whoever_has_the_whole_first_tells_its_digest() -> None:
    """The first one may be dead by now."""
    claims = of_three()
    claims.update("s-0", [Assignment(TASK, "g", 4, None)], revision=1)
    claims.update("s-1", [Assignment(TASK, "g", 4, 8, DIGEST)], revision=1)
    assert Assignment(TASK, "g", 4, 8, DIGEST) == claims.joined()[TASK]


def test_a_file_appears_wherever_anybody_wants_it() -> None:
    claims = of_three()
    claims.update("s-0", [Assignment(TASK, "g", deliveries=(Delivery("u", "a"), Delivery("v", "b")))], revision=1)
    claims.update("s-1", [Assignment(TASK, "g", deliveries=(Delivery("w", "c"), Delivery("u", "new")))], revision=1)
    delivered = {delivery.uid: delivery.path for delivery in claims.joined()[TASK].deliveries}
    assert {"u": "a", "v": "b", "w": "c"} == delivered


@pytest.mark.parametrize(
    "assignment",
    [
        Assignment("../x", "g"),
        Assignment(TASK, "g", digest="md5:00"),
        Assignment(TASK, "g", -1),
        Assignment(TASK, "g", 1 << 40),
        Assignment(TASK, "g", 4, -1),
    ],
)
def test_what_cannot_be_worked_with_is_known(assignment: Assignment) -> None:
    assert is_valid(Assignment(TASK, "g", 4, 8, DIGEST))
    assert not is_valid(assignment)


@dataclass
class Supernode:
    """Tells what it was stated last; knows nothing after a restart."""

    membership: Membership | None = None
    tasks: frozenset[str] = field(default_factory=frozenset)


class TasksMove(RuleBasedStateMachine):
    """An operator moves tasks among three supernodes, as hastily as it can: who owns one no more is told so at once.

    Statements and answers are late, lost or out of step with each other; supernodes restart; the peer drops what it
    may. Whatever is wanted all the time is never dropped, and in the end nothing else is held.
    """

    def __init__(self) -> None:
        super().__init__()
        self.present = membership(1, *NAMES)
        self.supernodes = {name: Supernode() for name in NAMES}
        self.wanted = set(TASKS[:5])
        self.doubtful: set[str] = set()
        self.held: set[str] = set()
        self.claims = AssignmentSet()

    @initialize(names=st.permutations(NAMES))
    def begin(self, names: list[str]) -> None:
        for name in names:
            self.state(name)
            self.answer(name)

    @rule(task=st.sampled_from(TASKS))
    def want(self, task: str) -> None:
        self.wanted.add(task)

    @rule(task=st.sampled_from(TASKS))
    def do_not_want(self, task: str) -> None:
        self.wanted.discard(task)
        self.doubtful.add(task)

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def change_the_members(self, names: set[str]) -> None:
        self.present = membership(self.present.revision + 1, *sorted(names))

    @rule(name=st.sampled_from(NAMES))
    def state(self, name: str) -> None:
        owned = {task for task in self.wanted if (owner := self.present.owner(task)) and owner.name == name}
        self.supernodes[name] = Supernode(self.present, frozenset(owned))

    @rule(name=st.sampled_from(NAMES))
    def restart(self, name: str) -> None:
        self.supernodes[name] = Supernode()

    @rule(name=st.sampled_from(NAMES))
    def answer(self, name: str) -> None:
        """A member says all, or whoever the peer begins with says who the members are."""
        supernode, claims = self.supernodes[name], self.claims
        if supernode.membership is None:
            return
        if claims.join(supernode.membership):
            for gone in claims.supernodes - {member.name for member in supernode.membership.members}:
                claims.remove(gone)
        if claims.membership is not None and claims.membership.member(name) is not None:
            said = [Assignment(task, "g") for task in supernode.tasks]
            claims.update(name, said, revision=supernode.membership.revision)
        assigned = claims.joined().keys()
        if claims.complete:
            assert not (self.held - assigned) & self.wanted - self.doubtful
            self.held.clear()
        self.held |= assigned

    def teardown(self) -> None:
        for name in NAMES:
            self.state(name)
        for name in NAMES:
            self.answer(name)
        assert self.wanted == self.held


TestTasksMove = TasksMove.TestCase
TestTasksMove.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
