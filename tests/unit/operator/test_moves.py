"""Scaling at any moment, whatever supernodes and peers do: no Task loses a node, and all moves end."""

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pantala_operator.events import ReplicasFound
from pantala_operator.supernodes.view import SupernodeOverview, TaskView
from pantala_protocol.statement import CDNStatus, Changes, Member, PeerReport, TaskReport, owner_among
from tests.support.examples import examples

NAMES = ("s-0", "s-1", "s-2")
NODES = frozenset("a")
TASKS = tuple(next(t for t in "abcdefghijkl" if owner_among(t, NAMES) == name) for name in NAMES[1:])
"""The tasks that move when three supernodes run."""
WHOLE = 3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class ModelSupernode:
    """A supernode, as far as its reports go."""

    boot: int = 1
    revision: int = 0
    stated: set[str] = field(default_factory=set)
    dropping: set[str] = field(default_factory=set)
    """No longer stated, but kept during the grace."""
    pieces: dict[str, int] = field(default_factory=dict)
    connected: set[str] = field(default_factory=set)
    published: dict[str, set[str]] = field(default_factory=dict)
    """What each node has reported to it."""

    @property
    def tasks(self) -> set[str]:
        return self.stated | self.dropping

    def report(self, task: str) -> TaskReport:
        pieces = self.pieces.get(task, 0)
        status = CDNStatus.SUCCESS if pieces == WHOLE else CDNStatus.RUNNING if pieces else CDNStatus.WAITING
        ready = tuple(node for node in sorted(NODES) if task in self.published.get(node, ()))
        return TaskReport(task, task, "1/", status, pieces_cached=pieces, ready_peers=ready)

    def changes(self) -> Changes:
        """A full report, which includes all changes."""
        peers = tuple(PeerReport(node, node in self.connected) for node in sorted(NODES))
        tasks = tuple(self.report(task) for task in sorted(self.tasks))
        gone = tuple(sorted(set(TASKS) - self.tasks)) if self.revision else ()
        return Changes(str(self.boot), 1, self.revision, tasks=tasks, gone=gone, peers=peers)


class Moves(RuleBasedStateMachine):
    """The operator's overview of supernodes and peers that keep their promises, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.known = SupernodeOverview()
        self.supernodes = {name: ModelSupernode() for name in NAMES}
        self.published = {node: set[str]() for node in NODES}
        self.counted: dict[str, Set[str]] = {task: frozenset() for task in TASKS}
        self.whole = dict.fromkeys(TASKS, False)
        self.scale(1)

    @initialize(work=st.integers(0, 3), count=st.integers(1, 3))
    def begin(self, work: int, count: int) -> None:
        """The first supernode has done some or all of the work before the others start."""
        for part in (self.receive, self.state, self.work)[:work]:
            part(NAMES[0])
        self.scale(count)

    def view(self, task: str) -> TaskView:
        return self.known.task_view(task, task, "1/")

    @rule(count=st.integers(0, 3))
    def scale(self, count: int) -> None:
        staying = tuple(Member(name, f"http://{name}") for name in NAMES[:count])
        self.known.set_replicas(ReplicasFound(staying, absent="" if count else "scaled to 0"))

    @rule(name=st.sampled_from(NAMES), node=st.sampled_from(sorted(NODES)))
    def connect(self, name: str, node: str) -> None:
        """A peer starts with a report of all its files."""
        self.supernodes[name].connected.add(node)
        self.inform(name, node)

    @rule(name=st.sampled_from(NAMES), node=st.sampled_from(sorted(NODES)))
    def disconnect(self, name: str, node: str) -> None:
        self.supernodes[name].connected.discard(node)

    @rule(name=st.sampled_from(NAMES), node=st.sampled_from(sorted(NODES)))
    def inform(self, name: str, node: str) -> None:
        """A peer reports its published files to a supernode."""
        if node in self.supernodes[name].connected:
            self.supernodes[name].published[node] = set(self.published[node])

    @rule(name=st.sampled_from(NAMES), task=st.sampled_from(TASKS))
    def fetch(self, name: str, task: str) -> None:
        supernode = self.supernodes[name]
        if task in supernode.stated:
            supernode.pieces[task] = min(supernode.pieces.get(task, 0) + 1, WHOLE)

    @rule(name=st.sampled_from(NAMES), node=st.sampled_from(sorted(NODES)), task=st.sampled_from(TASKS))
    def publish(self, name: str, node: str, task: str) -> None:
        supernode = self.supernodes[name]
        if task in supernode.stated and supernode.pieces.get(task) == WHOLE and node in supernode.connected:
            self.published[node].add(task)
            supernode.published.setdefault(node, set()).add(task)

    @rule(name=st.sampled_from(NAMES))
    def drop(self, name: str) -> None:
        """The grace ends."""
        supernode = self.supernodes[name]
        for task in supernode.dropping:
            supernode.pieces.pop(task, None)
        supernode.dropping = set()

    @rule(name=st.sampled_from(NAMES))
    def restart(self, name: str) -> None:
        """A restart keeps the volume and loses the memory."""
        former = self.supernodes[name]
        self.supernodes[name] = ModelSupernode(former.boot + 1, pieces=former.pieces)

    @rule(name=st.sampled_from(NAMES))
    def receive(self, name: str) -> None:
        if name in self.known.views:
            self.known.on_update(name, self.supernodes[name].changes())

    @rule(name=st.sampled_from(NAMES), silent=st.booleans())
    def silence(self, name: str, silent: bool) -> None:
        """Only of staying supernodes: what only a leaving supernode knows is lost if it does not answer."""
        if any(member.name == name and not member.leaving for member in self.known.members):
            self.known.on_reachability(name, "timeout" if silent else "")

    @rule(name=st.sampled_from(NAMES))
    def state(self, name: str) -> None:
        """State to a supernode what it should have, as the loop does."""
        supernode = self.supernodes[name]
        if (
            not self.known.complete
            or self.known.absent
            or name not in self.known.views
            or not self.known.views[name].reported
        ):
            return
        if self.known.views[name].silent or self.known.views[name].boot != str(supernode.boot):
            return
        wanted = {task for task in TASKS if name in self.view(task).stated}
        supernode.dropping = (supernode.dropping | supernode.stated) - wanted
        supernode.stated = wanted
        supernode.revision += 1
        self.known.on_statement(name, wanted, supernode.revision)
        leaving = {member.name for member in self.known.members if member.leaving}
        if name in leaving and not wanted:
            self.known.release(name)
            supernode.pieces.clear()

    @rule(name=st.sampled_from(NAMES), giving=st.booleans())
    def work(self, name: str, giving: bool = True) -> None:
        """All steps for one supernode, as usual. ``giving``: its peers publish, too."""
        self.receive(name)
        self.state(name)
        for node in sorted(NODES - self.supernodes[name].connected):
            self.connect(name, node)
        for task in TASKS:
            for _ in range(WHOLE):
                self.fetch(name, task)
            for node in sorted(NODES) if giving else ():
                self.publish(name, node, task)
        self.receive(name)

    @invariant()
    def a_task_is_stated_to_its_owner_and_else_only_to_supernodes_that_have_it(self) -> None:
        staying = [member.name for member in self.known.members if not member.leaving]
        for task in TASKS:
            have = {name for name, view in self.known.views.items() if view.report(task, task) is not None}
            owner = owner_among(task, staying)
            stated = self.view(task).stated
            assert stated <= have if self.known.absent else owner in stated <= {owner, *have}

    @invariant()
    def no_task_loses_a_node_with_its_file(self) -> None:
        for task in TASKS:
            holders = self.view(task).holders
            assert self.counted[task] <= holders, task
            self.counted[task] = holders
            assert holders <= {node for node in NODES if task in self.published[node]}

    @invariant()
    def no_whole_copy_is_lost(self) -> None:
        """Otherwise the origin is read again."""
        for task in TASKS:
            whole = any(supernode.pieces.get(task) == WHOLE for supernode in self.supernodes.values())
            assert self.whole[task] <= whole, task
            self.whole[task] = whole

    def teardown(self) -> None:
        """After the last fault each task is stated to its owner only, and no supernode is leaving."""
        self.scale(max(1, len([member for member in self.known.members if not member.leaving])))
        for _ in range(2 + 2 * WHOLE):
            for name in NAMES:
                if name in self.known.views:
                    self.known.on_reachability(name, "")
                self.work(name)
                self.drop(name)
                self.receive(name)
        staying = [member.name for member in self.known.members]
        assert not [member for member in self.known.members if member.leaving]
        for task in TASKS:
            owner = owner_among(task, staying)
            assert {owner} == self.view(task).stated
            assert [owner] == [name for name in staying if task in self.supernodes[name].stated]
            assert NODES == self.view(task).holders


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=examples(200), stateful_step_count=25)


def test_a_copy_whose_deletion_is_not_reported_yet_does_not_count() -> None:
    """Else the only other supernode with the file leaves, and the origin is read again."""
    moves = Moves()
    moves.work(NAMES[0])
    moves.scale(3)
    for name in (*NAMES[1:], *NAMES):
        moves.work(name)
    moves.drop(NAMES[0])
    moves.scale(1)
    for name in reversed(NAMES):
        moves.state(name)
        moves.no_whole_copy_is_lost()
    moves.teardown()
