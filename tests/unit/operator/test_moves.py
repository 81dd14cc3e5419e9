"""Scaling at any moment, whatever supernodes and peers do meanwhile: no node is lost to a Task, and all moves end."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pantala_operator.events import ReplicasFound
from pantala_operator.supernodes.view import SupernodeOverview, TaskView
from pantala_protocol import membership
from pantala_protocol.membership import Member
from pantala_protocol.statement import CDNStatus, Changes, PeerReport, TaskReport

NAMES = ("s-0", "s-1", "s-2")
NODES = frozenset("a")
TASKS = tuple(next(t for t in "abcdefghijkl" if membership.owner(t, NAMES) == name) for name in NAMES[1:])
"""Those that move when there are three."""
WHOLE = 3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Supernode:
    """One, as far as its reports go."""

    boot: int = 1
    revision: int = 0
    stated: set[str] = field(default_factory=set)
    dropping: set[str] = field(default_factory=set)
    """No longer stated, within their grace."""
    pieces: dict[str, int] = field(default_factory=dict)
    connected: set[str] = field(default_factory=set)
    published: dict[str, set[str]] = field(default_factory=dict)
    """What each node told it."""

    @property
    def tasks(self) -> set[str]:
        return self.stated | self.dropping

    def report(self, task: str) -> TaskReport:
        pieces = self.pieces.get(task, 0)
        status = CDNStatus.SUCCESS if pieces == WHOLE else CDNStatus.RUNNING if pieces else CDNStatus.WAITING
        ready = tuple(node for node in sorted(NODES) if task in self.published.get(node, ()))
        return TaskReport(task, task, "1/", status, pieces_cached=pieces, ready_peers=ready)

    def changes(self) -> Changes:
        """All there is, which says no less than what changed."""
        peers = tuple(PeerReport(node, node in self.connected) for node in sorted(NODES))
        tasks = tuple(self.report(task) for task in sorted(self.tasks))
        gone = tuple(sorted(set(TASKS) - self.tasks)) if self.revision else ()
        return Changes(str(self.boot), 1, self.revision, tasks=tasks, gone=gone, peers=peers)


class Moves(RuleBasedStateMachine):
    """Operator's knowledge against supernodes and peers that do as they promise, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.known = SupernodeOverview()
        self.supernodes = {name: Supernode() for name in NAMES}
        self.published = {node: set[str]() for node in NODES}
        self.counted = {task: frozenset[str]() for task in TASKS}
        self.scale(1)

    @initialize(work=st.integers(0, 3), count=st.integers(1, 3))
    def begin(self, work: int, count: int) -> None:
        """The first supernode is at it, or has nearly done it all, when there are more."""
        for part in (self.hear, self.state, self.work)[:work]:
            part(NAMES[0])
        self.scale(count)

    def standing(self, task: str) -> TaskView:
        return self.known.task_view(task, task, "1/")

    @rule(count=st.integers(0, 3))
    def scale(self, count: int) -> None:
        staying = tuple(Member(name, f"http://{name}") for name in NAMES[:count])
        self.known.set_replicas(ReplicasFound(staying, absent="" if count else "scaled to 0"))

    @rule(name=st.sampled_from(NAMES), node=st.sampled_from(sorted(NODES)))
    def connect(self, name: str, node: str) -> None:
        """A peer begins with all that it has."""
        self.supernodes[name].connected.add(node)
        self.inform(name, node)

    @rule(name=st.sampled_from(NAMES), node=st.sampled_from(sorted(NODES)))
    def disconnect(self, name: str, node: str) -> None:
        self.supernodes[name].connected.discard(node)

    @rule(name=st.sampled_from(NAMES), node=st.sampled_from(sorted(NODES)))
    def inform(self, name: str, node: str) -> None:
        """A peer tells what it has published, to whom assigns it."""
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
        """The grace is over."""
        supernode = self.supernodes[name]
        for task in supernode.dropping:
            supernode.pieces.pop(task, None)
        supernode.dropping = set()

    @rule(name=st.sampled_from(NAMES))
    def restart(self, name: str) -> None:
        """The volume stays, the memory does not."""
        former = self.supernodes[name]
        self.supernodes[name] = Supernode(former.boot + 1, pieces=former.pieces)

    @rule(name=st.sampled_from(NAMES))
    def hear(self, name: str) -> None:
        if name in self.known.views:
            self.known.on_update(name, self.supernodes[name].changes())

    @rule(name=st.sampled_from(NAMES), silent=st.booleans())
    def silence(self, name: str, silent: bool) -> None:
        """Of one that stays: who leaves and does not answer takes with it what only it knew."""
        if any(member.name == name and not member.leaving for member in self.known.members):
            self.known.on_reachability(name, "timeout" if silent else "")

    @rule(name=st.sampled_from(NAMES))
    def state(self, name: str) -> None:
        """Tell one what is wanted of it, as the loop does."""
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
        wanted = {task for task in TASKS if name in self.standing(task).stated}
        supernode.dropping = (supernode.dropping | supernode.stated) - wanted
        supernode.stated = wanted
        supernode.revision += 1
        leaving = {member.name for member in self.known.members if member.leaving}
        if name in leaving and not wanted:
            self.known.release(name)

    @rule(name=st.sampled_from(NAMES), giving=st.booleans())
    def work(self, name: str, giving: bool = True) -> None:
        """All of this for one, as it is most of the time; ``giving``: peers get as far as to publish."""
        self.hear(name)
        self.state(name)
        for node in sorted(NODES - self.supernodes[name].connected):
            self.connect(name, node)
        for task in TASKS:
            for _ in range(WHOLE):
                self.fetch(name, task)
            for node in sorted(NODES) if giving else ():
                self.publish(name, node, task)
        self.hear(name)

    @invariant()
    def a_task_is_stated_to_its_owner_and_at_most_to_those_who_have_it(self) -> None:
        staying = [member.name for member in self.known.members if not member.leaving]
        for task in TASKS:
            have = {name for name, view in self.known.views.items() if view.report(task, task) is not None}
            owner = membership.owner(task, staying)
            stated = self.standing(task).stated
            assert stated <= have if self.known.absent else owner in stated <= {owner, *have}

    @invariant()
    def no_node_that_has_a_file_is_lost_to_its_task(self) -> None:
        for task in TASKS:
            holders = self.standing(task).holders
            assert self.counted[task] <= holders, task
            self.counted[task] = holders
            assert holders <= {node for node in NODES if task in self.published[node]}

    def teardown(self) -> None:
        """When faults stop, each task is with its owner alone, and who was leaving has left."""
        self.scale(max(1, len([member for member in self.known.members if not member.leaving])))
        for _ in range(2 + 2 * WHOLE):
            for name in NAMES:
                if name in self.known.views:
                    self.known.on_reachability(name, "")
                for node in sorted(NODES):
                    self.connect(name, node)
                for task in TASKS:
                    self.fetch(name, task)
                    for node in sorted(NODES):
                        self.publish(name, node, task)
                self.drop(name)
                self.hear(name)
            for name in NAMES:
                self.state(name)
        staying = [member.name for member in self.known.members]
        assert not [member for member in self.known.members if member.leaving]
        for task in TASKS:
            owner = membership.owner(task, staying)
            assert {owner} == self.standing(task).stated
            assert [owner] == [name for name in staying if task in self.supernodes[name].stated]
            assert NODES == self.standing(task).holders


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
