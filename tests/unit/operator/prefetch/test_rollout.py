"""The rollout over nodes in waves, and the forecast of its bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.forecast import NodeImages, forecast
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pulls import STARTABLE, Step, omissions
from pantala_operator.plan.prefetch.rollout import NodeProgress, halted, share, starts, waves
from pantala_operator.resources.prefetch import ImageKey, NodeForecast, PullFailure, Rollout, Wave
from pantala_protocol.images import ImageBlob, RuntimeState
from tests.support.prefetch import AMD64

KEYS = tuple(ImageKey(f"i{number}") for number in range(3))
SHARES = st.one_of(st.none(), st.integers(1, 8), st.integers(1, 100).map("{}%".format))
STEPS = st.sampled_from(list(Step))


def work(name: str, *steps: Step, **labels: str) -> NodeProgress:
    return NodeProgress(name, sha256(name.encode()).digest(), dict(zip(KEYS, steps, strict=False)), labels)


def active(node: NodeProgress) -> int:
    """How many images it pulls."""
    return list(node.steps.values()).count(Step.ACTIVE)


def begun(node: NodeProgress) -> bool:
    return {Step.WAITING} != {Step.WAITING, *node.steps.values()}


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


def after(nodes: list[NodeProgress], started: Mapping[str, tuple[ImageKey, ...]]) -> list[NodeProgress]:
    def step(node: NodeProgress, key: ImageKey) -> Step:
        return Step.ACTIVE if key in started.get(node.name, ()) else node.steps[key]

    return [replace(node, steps={key: step(node, key) for key in node.steps}) for node in nodes]


@given(clusters(), ROLLOUTS)
def test_never_more_than_allowed_begin(nodes: list[NodeProgress], rollout: Rollout) -> None:
    started = starts(nodes, rollout)
    known = {node.name: node for node in nodes}
    for name, keys in started.items():
        assert all(known[name].steps[key] in STARTABLE for key in keys)
    later = after(nodes, started)
    limit = len(nodes) if rollout.parallelism is None else share(rollout.parallelism, len(nodes), up=True)
    already = sum(active(node) > 0 for node in nodes)
    assert sum(active(node) > 0 for node in later) <= max(limit, already)
    for node in later:
        assert active(node) <= max(rollout.per_node, active(known[node.name]))


@given(clusters(), ROLLOUTS)
def test_a_wave_begins_when_those_before_are_settled(nodes: list[NodeProgress], rollout: Rollout) -> None:
    started = starts(nodes, rollout)
    blocked = False
    for wave in waves(nodes, rollout.waves):
        if blocked:
            assert not [node.name for node in wave if node.name in started and not begun(node)]
        blocked |= any(step in (Step.WAITING, Step.ACTIVE) for node in wave for step in node.steps.values())


@given(clusters(), ROLLOUTS)
def test_too_many_failures_halt_those_that_have_not_begun(nodes: list[NodeProgress], rollout: Rollout) -> None:
    started = starts(nodes, rollout)
    if halted(nodes, rollout):
        assert not [node.name for node in nodes if node.name in started and not begun(node)]


@given(clusters(), ROLLOUTS, st.randoms())
def test_the_order_of_the_nodes_does_not_matter(nodes: list[NodeProgress], rollout: Rollout, by: Random) -> None:
    expected = starts(nodes, rollout)
    shuffled = list(nodes)
    by.shuffle(shuffled)
    assert expected == starts(shuffled, rollout)


@given(clusters(), WAVES)
def test_every_node_is_in_exactly_one_wave(nodes: list[NodeProgress], wanted: tuple[Wave, ...]) -> None:
    groups = waves(nodes, wanted)
    assert sorted(node.name for node in nodes) == sorted(node.name for group in groups for node in group)


@given(clusters(st.just(Step.WAITING)), ROLLOUTS, st.randoms())
def test_without_failures_every_node_is_done(nodes: list[NodeProgress], rollout: Rollout, by: Random) -> None:
    pulls = sum(len(node.steps) for node in nodes)
    for _ in range(2 * pulls + 1):
        nodes = after(nodes, starts(nodes, rollout))
        pulling = [(node, key) for node in nodes for key, step in node.steps.items() if step is Step.ACTIVE]
        if not pulling:
            break
        done, key = by.choice(pulling)
        nodes = [
            replace(node, steps={**node.steps, key: Step.READY}) if node.name == done.name else node for node in nodes
        ]
    assert all(step is Step.READY for node in nodes for step in node.steps.values())


def test_images_of_a_node_begin_in_their_order_and_one_after_the_other() -> None:
    node = work("a", Step.WAITING, Step.WAITING, Step.WAITING)
    assert {"a": KEYS[:1]} == starts([node], Rollout())
    assert {"a": KEYS[:2]} == starts([node], Rollout(per_node=2))
    assert {} == starts([work("a", Step.ACTIVE, Step.WAITING)], Rollout())
    assert {"a": KEYS[1:2]} == starts([work("a", Step.READY, Step.WAITING)], Rollout())


def test_a_node_that_has_begun_comes_first() -> None:
    fresh = [work(f"n{number}", Step.WAITING, Step.WAITING) for number in range(9)]
    for number in range(9):
        nodes = [*fresh[:number], work(f"n{number}", Step.READY, Step.WAITING), *fresh[number + 1 :]]
        assert {f"n{number}": KEYS[1:2]} == starts(nodes, Rollout(parallelism=1))


def test_nodes_that_have_begun_go_on_while_others_are_halted() -> None:
    nodes = [work("a", Step.FAILED), work("b", Step.DUE), work("c", Step.WAITING)]
    assert {"b": KEYS[:1]} == starts(nodes, Rollout(max_failures=1))
    assert {"b", "c"} == starts(nodes, Rollout(max_failures=2)).keys()
    assert {"b", "c"} == starts(nodes, Rollout()).keys()


def test_waves_by_label_then_by_number_then_the_rest() -> None:
    nodes = [work(f"n{number}", Step.WAITING, pool="x" if number < 2 else "y") for number in range(6)]
    rollout = Rollout(waves=(Wave({"pool": "x"}), Wave(nodes="25%")))
    assert [2, 2, 2] == [len(group) for group in waves(nodes, rollout.waves)]
    assert {"n0", "n1"} == starts(nodes, rollout).keys()


def test_a_failed_node_does_not_hold_the_next_wave_up() -> None:
    rollout = Rollout(waves=(Wave({"pool": "x"}),))
    for step, begins in ((Step.PAUSED, True), (Step.EVICTED, True), (Step.LEFT_OUT, True), (Step.ACTIVE, False)):
        nodes = [work("a", step, pool="x"), work("b", Step.WAITING)]
        assert begins == ("b" in starts(nodes, rollout)), step


@pytest.mark.parametrize(
    ("value", "total", "up", "expected"),
    [
        (3, 7, True, 3),
        ("50%", 7, True, 4),
        ("50%", 7, False, 3),
        ("1%", 7, True, 1),
        ("0%", 7, False, 0),
        ("100%", 0, True, 0),
    ],
)
def test_shares(value: int | str, total: int, up: bool, expected: int) -> None:
    assert expected == share(value, total, up=up)


ARM64 = "linux/arm64"


def pin(name: str, **blobs: int) -> Pin:
    asked = frozenset({AMD64, ARM64})
    return Pin(ImageKey(name), "d", platforms={AMD64: tuple(ImageBlob(*each) for each in blobs.items())}, asked=asked)


def blobs(each: Pin) -> tuple[ImageBlob, ...]:
    """For a node of the only platform."""
    return (each.platforms or {}).get(AMD64, ())


def size(blobs: Iterable[ImageBlob]) -> int:
    """Bytes, each blob once."""
    return sum({blob.digest: blob.size for blob in blobs}.values())


ONE, TWO = pin("one", base=100, top=10), pin("two", base=100, other=20)
PINS = {each.key: each for each in (ONE, TWO)}


def node_images(node: str, one: Step, two: Step, *blobs: str, disk_free: int | None = None) -> NodeImages:
    """How far two images are on a node that has some blobs."""
    runtime = RuntimeState(disk_free=disk_free, blobs=dict.fromkeys(blobs, True))
    return NodeImages(node, AMD64, {ONE.key: one, TWO.key: two}, runtime)


def test_layers_that_are_there_are_not_fetched() -> None:
    has_one = node_images("a", Step.READY, Step.WAITING)
    has_base = node_images("b", Step.WAITING, Step.WAITING, "base")
    has_all = node_images("c", Step.READY, Step.READY)
    found = forecast([has_one, has_base, has_all], PINS, [])
    assert (NodeForecast("b", 30, 2), NodeForecast("a", 20, 1)) == found.nodes
    assert (50, 30, 2) == (found.size, found.registry_bytes, found.nodes_total)


def test_an_image_of_blobs_that_are_all_there_is_there() -> None:
    """A pod or another ImagePrefetch has pulled it."""
    has_one = node_images("a", Step.WAITING, Step.WAITING, "base", "top")
    has_all = node_images("b", Step.WAITING, Step.WAITING, "base", "top", "other")
    found = forecast([has_one, has_all], PINS, [])
    assert ((NodeForecast("a", 20, 1),), 1) == (found.nodes, found.nodes_total)


def test_an_image_that_is_not_known_yet_is_not_there() -> None:
    unknown = Pin(ImageKey("unknown"))
    found = forecast([NodeImages("a", AMD64, {unknown.key: Step.WAITING})], {unknown.key: unknown}, [])
    assert (NodeForecast("a", 0, 1),) == found.nodes


def test_free_space_after_the_pulls_counts_unpacked_layers() -> None:
    found = forecast([node_images("a", Step.WAITING, Step.WAITING, disk_free=400)], PINS, [])
    assert (400, 400 - 130 - 325) == (found.nodes[0].disk_free, found.nodes[0].disk_free_after)


def test_an_image_that_a_node_does_not_get_is_not_counted() -> None:
    found = forecast([node_images("a", Step.WAITING, Step.LEFT_OUT)], PINS, [PullFailure("a", "BudgetExceeded", "two")])
    assert (110, (NodeForecast("a", 110, 1),)) == (found.size, found.nodes)
    assert ((PullFailure("a", "BudgetExceeded", "two"),), 1) == (found.left_out, found.left_out_total)


def test_the_report_is_bounded_and_says_how_much_it_leaves_out() -> None:
    works = [node_images(f"n{number:03}", Step.WAITING, Step.WAITING) for number in range(60)]
    left = [PullFailure(f"m{number:03}", "NoPeer") for number in range(70)]
    found = forecast(works, PINS, left)
    assert (50, 60, 50, 70) == (len(found.nodes), found.nodes_total, len(found.left_out), found.left_out_total)
    assert (60 * 130, 130) == (found.size, found.registry_bytes)


def test_a_budget_takes_the_first_images_that_fit() -> None:
    big, small = pin("big", large=1000), pin("small", tiny=1)
    pins = [ONE, big, TWO, small]
    assert {} == omissions(pins, AMD64, None)
    assert {big.key: "BudgetExceeded"} == omissions(pins, AMD64, 131)
    assert {big.key: "BudgetExceeded", TWO.key: "BudgetExceeded"} == omissions(pins, AMD64, 111)


def test_an_image_that_is_not_made_for_a_platform_is_left_out() -> None:
    assert {ONE.key: "PlatformMissing", TWO.key: "PlatformMissing"} == omissions([ONE, TWO], ARM64, None)
    assert {} == omissions([Pin(ImageKey("unknown"), "d")], ARM64, 1)


BLOBS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 50), max_size=4)


@given(st.lists(BLOBS, max_size=5), st.integers(0, 200))
def test_kept_images_never_exceed_the_budget(contents: list[dict[str, int]], budget: int) -> None:
    lengths = {name: length for each in contents for name, length in each.items()}
    pins = [pin(f"i{number}", **{name: lengths[name] for name in each}) for number, each in enumerate(contents)]
    refused = omissions(pins, AMD64, budget)
    kept = [blob for each in pins if each.key not in refused for blob in blobs(each)]
    assert size(kept) <= budget
    for each in pins:
        if each.key in refused:
            assert size([*kept, *blobs(each)]) > 0


@given(st.lists(BLOBS, max_size=5), st.frozensets(st.sampled_from("abcdefgh")), st.data())
def test_the_forecast_counts_blobs_once(
    contents: list[dict[str, int]], layers: frozenset[str], data: st.DataObject
) -> None:
    lengths = {name: length for each in contents for name, length in each.items()}
    pins = [pin(f"i{number}", **{name: lengths[name] for name in each}) for number, each in enumerate(contents)]
    known = {each.key: each for each in pins}
    steps = {key: data.draw(st.sampled_from([Step.READY, Step.WAITING, Step.PAUSED])) for key in known}
    there = layers | {blob.digest for key in known if steps[key] is Step.READY for blob in blobs(known[key])}
    expected = sum(length for name, length in lengths.items() if name not in there)
    runtime = RuntimeState(blobs=dict.fromkeys(layers, True))
    works = [NodeImages(name, AMD64, steps, runtime) for name in ("a", "b")]
    found = forecast(works, known, [])
    assert (2 * expected, expected) == (found.size, found.registry_bytes)
