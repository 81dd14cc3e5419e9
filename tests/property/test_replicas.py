"""Replicas that want one file at the same time, in every order of their steps: one of them reads the origin."""

import itertools
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantala_protocol import ranges
from pantala_supernode.replicas.decision import Act, CopyReport, Decision, Need, Stage, decide
from tests.support.examples import examples

NAMES = ("s-0", "s-1", "s-2")
PIECES = 4
SIZE = 10


@dataclass
class Node:
    """One supernode with one file, as a machine whose steps interleave with those of the others."""

    name: str
    owner: str
    """Its idea of the owner."""
    wants: bool
    stage: Stage = Stage.IDLE
    have: int = 0
    generation: str = ""
    reports: dict[str, CopyReport | None] = field(default_factory=dict)
    to_ask: list[str] = field(default_factory=list)
    provider: str = ""

    @property
    def whole(self) -> bool:
        return self.have == PIECES

    def report(self) -> CopyReport | None:
        if not self.wants:
            return None
        return CopyReport(
            "t",
            self.stage,
            self.whole,
            self.generation,
            SIZE if self.generation else 0,
            PIECES * SIZE,
            etag='"v1"',
            cached=ranges.render((1 << self.have) - 1),
        )


class World:
    def __init__(self, nodes: list[Node], unreachable: set[tuple[str, str]]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.unreachable = unreachable
        self.readers: list[str] = []
        self.begun = 0

    def step(self, node: Node) -> None:
        """One atomic step: look at one other, decide, or get one piece."""
        if not node.wants or node.whole:
            return
        if node.stage is Stage.IDLE:
            self._ask(node, claim=not node.owner or node.owner == node.name)
        elif node.stage is Stage.READING:
            self._read(node)
        elif node.stage is Stage.COPYING:
            self._copy(node)
        elif node.to_ask:
            other = node.to_ask.pop()
            if (node.name, other) not in self.unreachable:
                node.reports[other] = self.nodes[other].report()
        else:
            self._act(node)

    def _ask(self, node: Node, *, claim: bool) -> None:
        node.stage = Stage.CLAIMING if claim else Stage.ASKING
        node.reports, node.to_ask = {}, [name for name in self.nodes if name != node.name]

    def _act(self, node: Node) -> None:
        owner = "" if node.owner == node.name else node.owner
        claimed = node.stage is Stage.CLAIMING
        decision = decide(Need(node.name, owner, claimed, node.generation, node.have * SIZE), node.reports)
        other = decision.provider or ""
        if decision.act is Act.READ:
            node.stage = Stage.READING
            self.readers.append(node.name)
        elif decision.act is Act.TAKE:
            node.stage, node.provider = Stage.COPYING, other
        else:
            if decision.act is Act.WANT:
                self.nodes[other].wants = True
                if self.nodes[other].owner != other:
                    node.owner = ""  # it says that it is not the owner
            self._ask(node, claim=decision.act is Act.CLAIM)

    def _read(self, node: Node) -> None:
        if not node.generation:
            self.begun += 1
            node.generation = f"g{self.begun}"
        else:
            node.have += 1
        if node.whole:
            node.stage = Stage.IDLE

    def _copy(self, node: Node) -> None:
        giver = self.nodes[node.provider]
        if node.generation != giver.generation:
            node.generation, node.have = giver.generation, 0
        elif giver.have > node.have:
            node.have += 1
        if node.whole or (giver.stage is not Stage.READING and giver.have <= node.have):
            node.stage = Stage.IDLE


@settings(max_examples=examples(500))
@given(
    owners=st.tuples(*(st.sampled_from(NAMES) for _ in NAMES)),
    agree=st.booleans(),
    wants=st.sets(st.sampled_from(NAMES), min_size=1),
    first=st.integers(0, PIECES),
    order=st.lists(st.sampled_from(NAMES), max_size=200),
)
def test_the_origin_is_read_once_for_any_owner_and_any_order_of_steps(
    owners: tuple[str, ...], *, agree: bool, wants: set[str], first: int, order: list[str]
) -> None:
    """``first``: the pieces that one node has from an earlier read."""
    nodes = [
        Node(name, owners[0] if agree else owner, name in wants) for name, owner in zip(NAMES, owners, strict=True)
    ]
    holder = next(node for node in nodes if node.wants)
    if first:
        holder.have, holder.generation = first, "g0"
    world = World(nodes, set())
    for name in order:
        world.step(world.nodes[name])
        assert len(world.readers) <= 1
    for _ in range(400):
        for node in nodes:
            world.step(node)
    assert all(node.whole for node in nodes if node.wants)
    assert (0 if first == PIECES else 1) == len(world.readers)
    assert len({node.generation for node in nodes if node.wants}) == 1


@pytest.mark.parametrize("owners", [("s-0", "s-1"), ("s-0", "s-0"), ("s-1", "s-0"), ("", "")])
def test_one_of_two_reads_the_origin_in_every_order_of_their_first_steps(owners: tuple[str, str]) -> None:
    for order in itertools.product(NAMES[:2], repeat=10):
        nodes = [Node(name, owner, wants=True) for name, owner in zip(NAMES[:2], owners, strict=True)]
        world = World(nodes, set())
        for name in (*order, *NAMES[:2] * 30):
            world.step(world.nodes[name])
        assert 1 == len(world.readers), order
        assert all(node.whole for node in nodes), order


@given(
    cut=st.sampled_from([(a, b) for a in NAMES for b in NAMES if a != b]),
    order=st.lists(st.sampled_from(NAMES), max_size=100),
)
def test_a_replica_that_cannot_reach_the_owner_gets_the_file(cut: tuple[str, str], order: list[str]) -> None:
    asker, owner = cut
    nodes = [Node(name, owner, name == asker) for name in NAMES]
    world = World(nodes, {cut})
    for name in [*order, *NAMES * 400]:
        world.step(world.nodes[name])
    assert world.nodes[asker].whole


def test_a_whole_copy_is_preferred_to_a_growing_one_and_that_to_a_part() -> None:
    def report(stage: Stage, *, whole: bool = False, cached: str = "", generation: str = "g") -> CopyReport:
        return CopyReport("t", stage, whole, generation, SIZE, PIECES * SIZE, '"v1"', cached=cached)

    part, reading = report(Stage.IDLE, cached="0-2"), report(Stage.READING, cached="0")
    whole = report(Stage.IDLE, whole=True, cached="0-3")
    need = Need("s-0", claimed=True)
    assert Decision(Act.TAKE, "c") == decide(need, {"a": part, "b": reading, "c": whole})
    assert Decision(Act.TAKE, "b") == decide(need, {"a": part, "b": reading})
    assert Decision(Act.TAKE, "a", 30) == decide(need, {"a": part})
    nameless = msgspec.structs.replace(part, etag="")
    assert Decision(Act.READ) == decide(need, {"a": nameless})
    assert Decision(Act.TAKE, "a", 30) == decide(Need("s-0", claimed=True, pinned=True), {"a": nameless})
    have = Need("s-0", claimed=True, generation="g", offset=30)
    assert Decision(Act.READ) == decide(have, {"a": part, "b": None})
    other = Need("s-0", claimed=True, generation="other")
    assert Decision(Act.READ) == decide(other, {"a": part})
    assert Decision(Act.TAKE, "b") == decide(other, {"a": part, "b": reading})
