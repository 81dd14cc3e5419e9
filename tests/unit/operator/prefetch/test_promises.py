"""What the plan promises for any spec and any failures."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pantala_operator.resources.conditions import is_true
from tests.support.examples import examples
from tests.support.prefetch import (
    ONE,
    READY,
    YES,
    failed,
    node,
    numbered,
    world,
)  # fmt: skip

REASONS = ["NoSpace", "Unreachable", "NotFound", "InvalidImage", "Timeout", "NewReason"]
SPECS = st.fixed_dictionaries(
    {
        "rollout": st.fixed_dictionaries(
            {"perNode": st.integers(1, 2)},
            optional={
                "parallelism": st.integers(1, 3) | st.just("50%"),
                "maxFailures": st.integers(0, 2),
                "waves": st.just([{"nodes": 1}, {"nodes": "50%"}]),
            },
        ),
        "completionPolicy": st.sampled_from(["Once", "Continuous"]),
        "retry": st.fixed_dictionaries({"limit": st.integers(0, 2)}),
    },
    optional={"activeDeadlineSeconds": st.integers(5, 500), "mode": st.just("Plan"), "suspend": st.booleans()},
)


@settings(max_examples=examples(60))
@given(SPECS, st.data())
def test_the_promises_hold_whatever_happens(spec: dict[str, Any], data: st.DataObject) -> None:
    """Bounds, sums and conditions; a status that the API server takes; a wake-up in the future."""
    names = [f"n{number}" for number in range(data.draw(st.integers(1, 5)))]
    it = world(*map(node, names), **spec)
    it.outcome = lambda *_: data.draw(st.one_of(st.just(READY), st.none(), st.sampled_from(REASONS).map(failed)))
    limit = spec["rollout"].get("parallelism", len(names))
    limit = -(-len(names) // 2) if limit == "50%" else limit
    for _ in range(data.draw(st.integers(1, 25))):
        before = it.now
        made = it.turn(seconds=data.draw(st.sampled_from([1, 10, 300])))
        assert len(it.active()) <= limit
        assert max(it.active().values(), default=0) <= spec["rollout"]["perNode"]
        ready, reconciling, stalled = (is_true(made.status.conditions, k) for k in ("Ready", "Reconciling", "Stalled"))
        assert ready + reconciling + stalled <= 1
        counts = made.status.nodes
        assert counts is not None
        assert min(counts.ready, counts.active, counts.failed, counts.waiting) >= 0
        assert counts.desired == counts.ready + counts.active + counts.failed + counts.waiting == len(names)
        assert ready == (counts.ready == len(names))
        assert made.wake_at is None or made.wake_at > before
        assert 1 >= len({each.image for each in it.children.values() if each.image.startswith(ONE)})
        if spec.get("suspend") or spec.get("mode"):
            assert {} == it.active()
    it.fits()


@settings(max_examples=examples(40))
@given(SPECS, st.integers(1, 6), st.integers(0, 3))
def test_every_node_gets_every_image_once_failures_pass(spec: dict[str, Any], count: int, bad: int) -> None:
    wanted = {key: value for key, value in spec.items() if key in {"rollout", "completionPolicy"}}
    it = world(*numbered(count), **wanted)
    it.outcome = lambda _image, _node, number: failed("Unreachable") if number <= bad else READY
    it.settle(400)
    assert ((YES, "Prefetched"), f"{count}/{count}") == (it.says("Ready"), it.each.status.summary)
