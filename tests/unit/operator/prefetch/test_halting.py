"""``rollout.maxFailures``: too many failures hold back nodes that have not begun, for as long as they last."""

from __future__ import annotations

from pantala_operator.plan.prefetch.pull import Phase, Pull
from tests.unit.operator.prefetch.test_plan import world
from tests.unit.operator.prefetch.world import NOW, World, failed, node

READY = Pull(Phase.READY, NOW, fetched=100)


def begun(it: World) -> set[str]:
    """Nodes that were ever told to pull."""
    return {name for pulls in it.pulls.values() for name in pulls}


def test_a_node_that_tries_again_is_still_one_that_fails() -> None:
    """Else each try of it would let another node begin, until all have failed."""
    it = world(
        *(node(f"n{number}") for number in range(8)),
        images=[{"image": "one:1"}],
        rollout={"parallelism": 2, "maxFailures": 0},
    )
    bad: set[str] = set()

    def outcome(_image: str, name: str, _number: int) -> Pull:
        bad.add(name) if not bad else None
        return failed("NoSpace") if name in bad else READY

    it.outcome = outcome
    it.turn(4)
    before = begun(it)
    assert 2 == len(before)
    it.turn(100)
    assert before == begun(it)
    it.outcome = lambda *_: READY
    it.settle()
    assert (("True", "Prefetched"), "8/8") == (it.says("Ready"), it.each.status.summary)


def test_a_pull_of_an_image_that_went_is_no_failure() -> None:
    it = world(
        *(node(f"n{number}") for number in range(3)),
        images=[{"image": "one:1"}],
        rollout={"parallelism": 2, "maxFailures": 0},
        completionPolicy="Continuous",
    )
    it.outcome = lambda *_: None
    it.turn(3)
    (task,) = it.pulls
    name, other = sorted(it.active())
    run = it.pulls[task][name].run
    it.pulls[task][name] = Pull(Phase.GONE, it.now, run, 1, gone=(it.now,))
    it.turn(2)
    assert (2, Phase.PULLING) == (it.pulls[task][name].tries, it.pulls[task][name].phase)
    it.pulls[task][other] = Pull(Phase.READY, it.now, run, 1)
    it.turn(2)
    assert 3 == len(begun(it))


def test_what_is_halted_for_good_is_finished() -> None:
    it = world(
        *(node(f"n{number}") for number in range(4)),
        images=[{"image": "one:1"}],
        rollout={"parallelism": 1, "maxFailures": 0},
        retry={"limit": 1},
        ttlSecondsAfterFinished=60,
    )
    it.outcome = lambda *_: failed("NoSpace")
    it.turn(4)
    assert ("True", "TooManyFailures") == it.says("Stalled")
    it.now = it.now.replace(minute=30)
    assert not it.plan().delete, "the node that fails is tried again"
    it.settle()
    it.now = it.now.replace(minute=59)
    assert it.plan().delete
