"""What would be fetched, and what fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.forecast import NodeImages, forecast
from pantala_operator.plan.prefetch.pins import Pin, omissions, size
from pantala_operator.plan.prefetch.pulls import Step
from pantala_operator.resources import quantity
from pantala_operator.resources.prefetch import ImageKey, NodeForecast, PullFailure
from pantala_protocol.images import ImageBlob, RuntimeState
from tests.support.prefetch import AMD64

ARM64 = "linux/arm64"


def pin(name: str, **blobs: int) -> Pin:
    asked = frozenset({AMD64, ARM64})
    return Pin(ImageKey(name), "d", platforms={AMD64: tuple(ImageBlob(*each) for each in blobs.items())}, asked=asked)


ONE, TWO = pin("one", base=100, top=10), pin("two", base=100, other=20)
PINS = {each.key: each for each in (ONE, TWO)}


def work(node: str, one: Step, two: Step, *blobs: str, disk_free: int | None = None) -> NodeImages:
    """How far two images are on a node that has some blobs."""
    runtime = RuntimeState(disk_free=disk_free, blobs=dict.fromkeys(blobs, True))
    return NodeImages(node, AMD64, {ONE.key: one, TWO.key: two}, runtime)


def test_layers_that_images_share_are_fetched_once() -> None:
    found = forecast([work("a", Step.WAITING, Step.WAITING)], PINS, [])
    assert (130, 130, (NodeForecast("a", 130, 2),)) == (found.size, found.registry_bytes, found.nodes)


def test_layers_that_are_there_are_not_fetched() -> None:
    has_one = work("a", Step.READY, Step.WAITING)
    has_base = work("b", Step.WAITING, Step.WAITING, "base")
    has_all = work("c", Step.READY, Step.READY)
    found = forecast([has_one, has_base, has_all], PINS, [])
    assert (NodeForecast("b", 30, 2), NodeForecast("a", 20, 1)) == found.nodes
    assert (50, 30, 2) == (found.size, found.registry_bytes, found.nodes_total)


def test_an_image_of_blobs_that_are_all_there_is_there() -> None:
    """A pod or another ImagePrefetch has pulled it."""
    has_one = work("a", Step.WAITING, Step.WAITING, "base", "top")
    has_all = work("b", Step.WAITING, Step.WAITING, "base", "top", "other")
    found = forecast([has_one, has_all], PINS, [])
    assert ((NodeForecast("a", 20, 1),), 1) == (found.nodes, found.nodes_total)


def test_an_image_that_is_not_known_yet_is_not_there() -> None:
    unknown = Pin(ImageKey("unknown"))
    found = forecast([NodeImages("a", AMD64, {unknown.key: Step.WAITING})], {unknown.key: unknown}, [])
    assert (NodeForecast("a", 0, 1),) == found.nodes


def test_free_space_after_the_pulls_counts_unpacked_layers() -> None:
    found = forecast([work("a", Step.WAITING, Step.WAITING, disk_free=400)], PINS, [])
    assert (400, 400 - 130 - 325) == (found.nodes[0].disk_free, found.nodes[0].disk_free_after)


def test_an_image_that_a_node_does_not_get_is_not_counted() -> None:
    found = forecast([work("a", Step.WAITING, Step.LEFT_OUT)], PINS, [PullFailure("a", "BudgetExceeded", "two")])
    assert (110, (NodeForecast("a", 110, 1),)) == (found.size, found.nodes)
    assert ((PullFailure("a", "BudgetExceeded", "two"),), 1) == (found.left_out, found.left_out_total)


def test_the_report_is_bounded_and_says_how_much_it_leaves_out() -> None:
    works = [work(f"n{number:03}", Step.WAITING, Step.WAITING) for number in range(60)]
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
    kept = [blob for each in pins if each.key not in refused for blob in each.blobs(AMD64) or ()]
    assert size(kept) <= budget
    for each in pins:
        if each.key in refused:
            assert size([*kept, *(each.blobs(AMD64) or ())]) > 0


@given(st.lists(BLOBS, max_size=5), st.frozensets(st.sampled_from("abcdefgh")), st.data())
def test_the_forecast_never_counts_a_blob_twice(
    contents: list[dict[str, int]], layers: frozenset[str], data: st.DataObject
) -> None:
    lengths = {name: length for each in contents for name, length in each.items()}
    pins = [pin(f"i{number}", **{name: lengths[name] for name in each}) for number, each in enumerate(contents)]
    known = {each.key: each for each in pins}
    steps = {key: data.draw(st.sampled_from([Step.READY, Step.WAITING, Step.PAUSED])) for key in known}
    there = layers | {
        blob.digest for key in known if steps[key] is Step.READY for blob in known[key].blobs(AMD64) or ()
    }
    expected = sum(length for name, length in lengths.items() if name not in there)
    runtime = RuntimeState(blobs=dict.fromkeys(layers, True))
    works = [NodeImages(name, AMD64, steps, runtime) for name in ("a", "b")]
    found = forecast(works, known, [])
    assert (2 * expected, expected) == (found.size, found.registry_bytes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("20Gi", 20 << 30), ("1Ki", 1024), ("3k", 3000), ("2P", 2 * 10**15), ("1Pi", 1 << 50)],
)
def test_quantities(text: str, expected: int) -> None:
    assert expected == quantity.parse(text)


@pytest.mark.parametrize("text", ["", "Gi", "1.5Gi", "-1", "1X", "1 Gi"])
def test_other_texts_are_not_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity of bytes"):
        quantity.parse(text)
