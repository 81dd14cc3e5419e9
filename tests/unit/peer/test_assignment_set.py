"""The assignments of several supernodes are joined, and a moving task stays assigned."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pantala_peer.sync.assignment_set import AssignmentSet, is_valid
from pantala_protocol.statement import Membership
from pantala_protocol.sync import Assignment, Delivery
from tests.support.examples import examples
from tests.support.peer import membership

TASKS = [f"{number:x}" * 64 for number in range(10)]
TASK, OTHER = TASKS[:2]
NAMES = ("s-0", "s-1", "s-2")
DIGEST = "sha256:" + "0" * 64


def of_three(revision: int = 1) -> AssignmentSet:
    made = AssignmentSet()
    assert made.join(membership(revision, *NAMES))
    return made


def assigned(**assignments: tuple[Assignment, ...]) -> AssignmentSet:
    """The set of three members after each of these has reported, in this order."""
    made = of_three()
    for name, each in assignments.items():
        made.update(name.replace("s", "s-"), each, revision=1)
    return made


def test_a_single_supernode_decides_alone() -> None:
    made = AssignmentSet()
    before = made.complete
    made.update("", [Assignment(TASK, "g")], revision=0)
    assert (False, True) == (before, made.complete)
    assert {TASK: Assignment(TASK, "g")} == made.joined()
    made.update("", [], revision=0)
    assert {} == made.joined()


def test_the_membership_with_the_greatest_revision_is_in_force() -> None:
    made = of_three(5)
    assert not made.join(membership(4, "s-0"))
    assert not made.join(membership(5, "s-0"))
    assert 3 == len(made.membership.members if made.membership else ())


def test_without_members_no_task_is_unwanted() -> None:
    made = assigned(s0=())
    made.join(membership(2))
    assert not made.complete


def test_of_two_contents_the_first_one_stays_until_it_is_retracted() -> None:
    first, second = Assignment(TASK, "g", 4, 8, DIGEST), Assignment(TASK, "h", 4, 9)
    made = assigned(s1=(first,), s0=(second,))
    assert first == made.joined()[TASK]
    made.update("s-1", [], revision=1)
    assert second == made.joined()[TASK]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Assignment(TASK, ""), Assignment(TASK, "g", 4, 8)),
        (Assignment(TASK, "g", 4, None), Assignment(TASK, "g", 4, 8, DIGEST)),
    ],
    ids=["content", "digest"],
)
def test_the_second_supernode_adds_what_the_first_does_not_know(first: Assignment, second: Assignment) -> None:
    """The first one may be dead when the second learns it."""
    assert second == assigned(s0=(first,), s1=(second,)).joined()[TASK]


def test_a_file_appears_at_the_paths_of_all_supernodes() -> None:
    made = assigned(
        s0=(Assignment(TASK, "g", deliveries=(Delivery("u", "a"), Delivery("v", "b"))),),
        s1=(Assignment(TASK, "g", deliveries=(Delivery("w", "c"), Delivery("u", "new"))),),
    )
    delivered = {delivery.uid: delivery.path for delivery in made.joined()[TASK].deliveries}
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
def test_an_assignment_with_unsafe_values_is_not_valid(assignment: Assignment) -> None:
    assert is_valid(Assignment(TASK, "g", 4, 8, DIGEST))
    assert not is_valid(assignment)


@dataclass
class Supernode:
    """Knows the last statement of the operator, and nothing after a restart."""

    membership: Membership | None = None
    tasks: frozenset[str] = field(default_factory=frozenset)


class TasksMove(RuleBasedStateMachine):
    """An operator moves tasks among three supernodes as fast as it can, and the former owner learns it first.

    Statements and answers are late, lost or out of order. Supernodes restart. The peer drops what it may drop. It never
    drops a task that is wanted all the time, and in the end it holds nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.present = membership(1, *NAMES)
        self.supernodes = {name: Supernode() for name in NAMES}
        self.wanted = set(TASKS[:5])
        self.doubtful: set[str] = set()
        self.held: set[str] = set()
        self.assignments = AssignmentSet()

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
        """A member sends its assignments, or any supernode sends the membership."""
        supernode, made = self.supernodes[name], self.assignments
        if supernode.membership is None:
            return
        if made.join(supernode.membership):
            for former in made.supernodes - {member.name for member in supernode.membership.members}:
                made.remove(former)
        if made.membership is not None and made.membership.member(name) is not None:
            sent = [Assignment(task, "g") for task in supernode.tasks]
            made.update(name, sent, revision=supernode.membership.revision)
        assigned = made.joined().keys()
        if made.complete:
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
TestTasksMove.settings = settings(max_examples=examples(200), stateful_step_count=40)
