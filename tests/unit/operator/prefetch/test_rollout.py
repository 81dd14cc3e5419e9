"""Which nodes start: never too many, in waves, halted by failures. All are done in the end."""

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.pulls import Step
from pantala_operator.plan.prefetch.rollout import NodeProgress, halted, share, starts, waves
from pantala_operator.resources.prefetch import ImageKey, Rollout, Wave

KEYS = tuple(ImageKey(f"i{number}") for number in range(3))
SHARES = st.one_of(st.none(), st.integers(1, 8), st.integers(1, 100).map("{}%".format))
STEPS = st.sampled_from(list(Step))


def work(name: str, *steps: Step, **labels: str) -> NodeProgress:
    return NodeProgress(name, dict(zip(KEYS, steps, strict=False)), labels)


@st.composite
def clusters(draw: st.DrawFn, steps: st.SearchStrategy[Step] = STEPS) -> list[NodeProgress]:
    images = draw(st.integers(1, 3))
    names = draw(st.lists(st.sampled_from([f"n{number}" for number in range(12)]), unique=True, max_size=10))
    pools = st.sampled_from(["x", "y"])
    return [work(name, *(draw(steps) for _ in range(images)), pool=draw(pools)) for name in names]


WAVES = st.lists(
    st.builds(Wave, node_selector=st.sampled_from([{}, {"pool": "x"}, {"pool": "z"}]), nodes=SHARES), max_size=3
).map(tuple)
ROLLOUTS = st.builds(
    Rollout,
    parallelism=SHARES,
    per_node=st.integers(1, 3),
    max_failures=st.one_of(st.none(), st.integers(0, 3), st.integers(0, 100).map("{}%".format)),
    waves=WAVES,
)


def after(nodes: list[NodeProgress], begun: Mapping[str, tuple[ImageKey, ...]]) -> list[NodeProgress]:
    def step(node: NodeProgress, key: ImageKey) -> Step:
        return Step.ACTIVE if key in begun.get(node.name, ()) else node.steps[key]

    return [NodeProgress(node.name, {key: step(node, key) for key in node.steps}, node.labels) for node in nodes]


@given(clusters(), ROLLOUTS)
def test_never_more_than_allowed_begin(nodes: list[NodeProgress], rollout: Rollout) -> None:
    begun = starts(nodes, rollout, "seed")
    known = {node.name: node for node in nodes}
    for name, keys in begun.items():
        assert all(known[name].steps[key].startable for key in keys)
    later = after(nodes, begun)
    limit = share(rollout.parallelism, len(nodes), up=True)
    already = sum(node.active > 0 for node in nodes)
    assert sum(node.active > 0 for node in later) <= max(limit, already)
    for node in later:
        assert node.active <= max(rollout.per_node, known[node.name].active)


@given(clusters(), ROLLOUTS)
def test_a_wave_begins_when_those_before_are_settled(nodes: list[NodeProgress], rollout: Rollout) -> None:
    begun = starts(nodes, rollout, "seed")
    blocked = False
    for wave in waves(nodes, rollout.waves, "seed"):
        if blocked:
            assert not [node.name for node in wave if node.name in begun and not node.begun]
        blocked = blocked or not all(node.settled for node in wave)


@given(clusters(), ROLLOUTS)
def test_too_many_failures_halt_those_that_have_not_begun(nodes: list[NodeProgress], rollout: Rollout) -> None:
    begun = starts(nodes, rollout, "seed")
    if halted(nodes, rollout):
        assert not [node.name for node in nodes if node.name in begun and not node.begun]


@given(clusters(), ROLLOUTS, st.randoms())
def test_the_order_of_the_nodes_does_not_matter(nodes: list[NodeProgress], rollout: Rollout, by: Random) -> None:
    expected = starts(nodes, rollout, "seed")
    shuffled = list(nodes)
    by.shuffle(shuffled)
    assert expected == starts(shuffled, rollout, "seed")


@given(clusters(), WAVES)
def test_every_node_is_in_exactly_one_wave(nodes: list[NodeProgress], wanted: tuple[Wave, ...]) -> None:
    groups = waves(nodes, wanted, "seed")
    assert sorted(node.name for node in nodes) == sorted(node.name for group in groups for node in group)


@given(clusters(st.just(Step.WAITING)), ROLLOUTS, st.randoms())
def test_without_failures_every_node_is_done(nodes: list[NodeProgress], rollout: Rollout, by: Random) -> None:
    pulls = sum(len(node.steps) for node in nodes)
    for _ in range(2 * pulls + 1):
        nodes = after(nodes, starts(nodes, rollout, "seed"))
        active = [(node, key) for node in nodes for key, step in node.steps.items() if step is Step.ACTIVE]
        if not active:
            break
        done, key = by.choice(active)
        nodes = [
            NodeProgress(node.name, {**node.steps, key: Step.READY}, node.labels) if node.name == done.name else node
            for node in nodes
        ]
    assert all(step is Step.READY for node in nodes for step in node.steps.values())


def test_images_of_a_node_begin_in_their_order_and_one_after_the_other() -> None:
    node = work("a", Step.WAITING, Step.WAITING, Step.WAITING)
    assert {"a": KEYS[:1]} == starts([node], Rollout(), "")
    assert {"a": KEYS[:2]} == starts([node], Rollout(per_node=2), "")
    assert {} == starts([work("a", Step.ACTIVE, Step.WAITING)], Rollout(), "")
    assert {"a": KEYS[1:2]} == starts([work("a", Step.READY, Step.WAITING)], Rollout(), "")


def test_a_node_that_has_begun_comes_first() -> None:
    fresh = [work(f"n{number}", Step.WAITING, Step.WAITING) for number in range(9)]
    for number in range(9):
        nodes = [*fresh[:number], work(f"n{number}", Step.READY, Step.WAITING), *fresh[number + 1 :]]
        assert {f"n{number}": KEYS[1:2]} == starts(nodes, Rollout(parallelism=1), "")


def test_nodes_that_have_begun_go_on_while_others_are_halted() -> None:
    nodes = [work("a", Step.FAILED), work("b", Step.DUE), work("c", Step.WAITING)]
    assert {"b": KEYS[:1]} == starts(nodes, Rollout(max_failures=1), "")
    assert {"b", "c"} == starts(nodes, Rollout(max_failures=2), "").keys()
    assert {"b", "c"} == starts(nodes, Rollout(), "").keys()


def test_waves_by_label_then_by_number_then_the_rest() -> None:
    nodes = [work(f"n{number}", Step.WAITING, pool="x" if number < 2 else "y") for number in range(6)]
    rollout = Rollout(waves=(Wave({"pool": "x"}), Wave(nodes="25%")))
    assert [2, 2, 2] == [len(group) for group in waves(nodes, rollout.waves, "")]
    assert {"n0", "n1"} == starts(nodes, rollout, "").keys()


def test_a_failed_node_does_not_hold_the_next_wave_up() -> None:
    rollout = Rollout(waves=(Wave({"pool": "x"}),))
    for step, begins in ((Step.PAUSED, True), (Step.EVICTED, True), (Step.LEFT_OUT, True), (Step.ACTIVE, False)):
        nodes = [work("a", step, pool="x"), work("b", Step.WAITING)]
        assert begins == ("b" in starts(nodes, rollout, "")), step


@pytest.mark.parametrize(
    ("value", "total", "up", "expected"),
    [
        (None, 7, True, 7),
        (3, 7, True, 3),
        ("50%", 7, True, 4),
        ("50%", 7, False, 3),
        ("1%", 7, True, 1),
        ("0%", 7, False, 0),
        ("100%", 0, True, 0),
    ],
)
def test_shares(value: int | str | None, total: int, up: bool, expected: int) -> None:
    assert expected == share(value, total, up=up)
