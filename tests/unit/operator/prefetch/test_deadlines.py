"""What happens at a time: timeouts, deadlines, schedules and the time to live."""

from datetime import timedelta

import pytest

from pantala_operator.plan.secrets import Unread
from pantala_operator.resources.api import Metadata, Secret
from tests.support.prefetch import (
    NO,
    NOW,
    ONE,
    READY,
    SECOND,
    YES,
    cluster,
    failed,
    node,
    pending,
    refused,
    world,
)  # fmt: skip


def test_a_node_that_does_not_answer_holds_its_slot_until_the_timeout() -> None:
    it = world(rollout={"parallelism": 1}, timeoutSecondsPerNode=60)
    it.turn()
    it.plan()
    given_to = set().union(*it.ordered())
    assert 1 == len(given_to)
    for _ in range(3):
        it.now += 10 * SECOND
        it.plan()
        assert given_to == set().union(*it.ordered())
    it.now += 62 * SECOND
    it.plan()
    assert (NO, "Timeout") == it.says("Ready")


def test_a_deadline_ends_a_run_and_cancels_its_pulls() -> None:
    it = world(activeDeadlineSeconds=60, outcome=pending)
    made = it.turn(3)
    assert made.wake_at == NOW + 60 * SECOND
    it.now = NOW + 60 * SECOND
    it.turn()
    assert ({}, (YES, "DeadlineExceeded")) == (it.active(), it.says("Stalled"))


@pytest.mark.parametrize(("reason", "deleted"), [("", True), ("InvalidImage", True), ("Unauthorized", False)])
def test_a_finished_one_is_deleted_after_its_time_to_live(reason: str, deleted: bool) -> None:
    it = world(ttlSecondsAfterFinished=60)
    it.outcome = lambda *_: failed(reason) if reason else READY
    it.turn(8)
    assert not it.plan().delete
    it.now += 61 * SECOND
    assert deleted == it.plan().delete


def test_a_schedule_waits_and_then_runs() -> None:
    it = world(schedule={"cron": "0 6 * * *"})
    made = it.turn()
    due = NOW + timedelta(hours=6)
    assert ((NO, "Scheduled"), due, ()) == (it.says("Ready"), made.wake_at, made.questions)
    assert (None, due) == (it.each.status.start_time, it.each.status.next_schedule_time)
    it.now = due
    it.turn(8)
    assert ((YES, "Prefetched"), due) == (it.says("Ready"), it.each.status.last_schedule_time)


def test_a_corrected_schedule_ends_stalled_before_the_first_run() -> None:
    it = world(schedule={"cron": "0 6 * * *", "timeZone": "Mars/Base"})
    it.turn()
    assert (YES, "ScheduleInvalid") == it.says("Stalled")
    it.edit(schedule={"cron": "0 6 * * *"})
    it.turn()
    assert ((NO, "Scheduled"), 2) == (it.says("Ready"), it.each.status.observed_generation)
    assert NO == it.says("Stalled")[0]


def test_a_stalled_one_without_nodes_shows_its_deadline_before_it_is_deleted() -> None:
    it = world(target={"nodeSelector": {"none": "here"}}, activeDeadlineSeconds=60, ttlSecondsAfterFinished=0)
    it.turn(3)
    assert (YES, "NoNodeMatches") == it.says("Stalled")
    it.now = NOW + 60 * SECOND
    assert it.plan().delete
    assert (YES, "DeadlineExceeded") == it.says("Stalled")


def test_a_stalled_one_completes_without_new_answers_when_its_failed_node_is_gone() -> None:
    it = world(outcome=lambda _, name, __: failed("InvalidImage") if name == "c" else READY)
    it.turn(8)
    assert (YES, "InvalidImage") == it.says("Stalled")
    it.answers.clear()  # another operator leads
    it.cluster = cluster(*map(node, "ab"))
    it.turn(2)
    assert ((YES, "Prefetched"), NO) == (it.says("Ready"), it.says("Stalled")[0])


def test_a_restart_keeps_stalled_while_the_pull_secret_is_not_read() -> None:
    it = world(images=[{"image": ONE}], pullSecrets=["s"])
    it.registry = {ONE: refused("NotFound")}
    it.secrets = {"s": Secret(Metadata("s", "ns", labels={"pantala.dev/allow": "images"}), {".dockercfg": "e30="})}
    it.turn(3)
    before = it.summary()
    assert (YES, "NotFound") == before[2]
    it.answers.clear()  # another operator leads
    it.secrets = {"s": Unread()}
    it.plan()
    assert before == it.summary()
