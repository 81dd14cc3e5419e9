"""``rollout.maxFailures``: while too many nodes are failing, no further node starts."""

import msgspec

from pantala_protocol.images import PullPhase, PullState
from tests.support.prefetch import ONLY_ONE, READY, YES, World, failed, numbered, pending, world


def nodes(count: int, **spec: object) -> World:
    """Nodes whose pulls fail."""
    return world(*numbered(count), images=ONLY_ONE, outcome=lambda *_: failed("NoSpace"), **spec)


def test_too_many_failures_halt_the_rollout() -> None:
    rollout = {"parallelism": 1, "maxFailures": 1}
    it = nodes(9, rollout=rollout, retry={"limit": 0})
    it.settle()
    assert (YES, "TooManyFailures") == it.says("Stalled")
    counts = msgspec.to_builtins(it.each.status.nodes)
    assert {"desired": 9, "ready": 0, "active": 0, "failed": 2, "waiting": 7, "unavailable": 0} == counts
    assert "2 of 9 nodes are failing" in it.message("Stalled")
    it.request("again", rollout=rollout, images=ONLY_ONE)
    it.finish()


def test_a_node_that_retries_still_counts_as_failing() -> None:
    """Otherwise each retry would let another node start, until all have failed."""
    it = nodes(8, rollout={"parallelism": 2, "maxFailures": 0})
    bad: set[str] = set()

    def outcome(_image: str, name: str, _number: int) -> PullState:
        bad.add(name) if not bad else None
        return failed("NoSpace") if name in bad else READY

    it.outcome = outcome
    it.turn(4)
    before = it.started()
    assert 2 == len(before)
    it.turn(100)
    assert before == it.started()
    it.finish()
    assert "8/8" == it.each.status.summary


def test_a_pull_after_the_kubelet_removed_the_image_is_not_a_failure() -> None:
    it = nodes(3, rollout={"parallelism": 2, "maxFailures": 0}, completionPolicy="Continuous")
    it.outcome = pending
    it.turn(3)
    (task,) = it.pulls
    name, other = sorted(it.active())
    run = it.pulls[task][name].run
    it.pulls[task][name] = PullState(PullPhase.GONE, it.unix, run, 1, gone=(it.unix,))
    it.turn(2)
    assert (2, PullPhase.PULLING) == (it.pulls[task][name].number, it.pulls[task][name].phase)
    it.pulls[task][other] = PullState(PullPhase.READY, it.unix, run, 1)
    it.turn(2)
    assert 3 == len(it.started())


def test_a_rollout_that_is_halted_for_good_is_finished() -> None:
    it = nodes(4, rollout={"parallelism": 1, "maxFailures": 0}, retry={"limit": 1}, ttlSecondsAfterFinished=60)
    it.turn(4)
    assert (YES, "TooManyFailures") == it.says("Stalled"), "although the node is tried again"
    it.now = it.now.replace(minute=30)
    assert not it.plan().delete, "the node that fails is tried again"
    it.settle()
    it.now = it.now.replace(minute=59)
    assert it.plan().delete
