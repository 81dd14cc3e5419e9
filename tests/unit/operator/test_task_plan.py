"""The plan of one Task: conditions, counts, events, deadlines."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pantala_operator.plan import task_quota
from pantala_operator.plan.secrets import Absent, Denied, Unread
from pantala_operator.plan.targets import Targets
from pantala_operator.plan.task import ObservedTask, plan
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.conditions import ConditionType, find, is_true
from pantala_operator.resources.status import notices
from pantala_protocol import task_id
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.rules.quotas import Quota, Quotas
from pantala_protocol.statement import Failure
from tests.support.task_plans import (
    ALL,
    FETCHING,
    FINAL,
    NO,
    NOW,
    ON_NODE,
    OWNER,
    PASSING,
    PATHS,
    PRIVATE,
    RARELY,
    UNKNOWN,
    URL,
    YES,
    after,
    observe,
    report,
    statuses,
    task,
)


@pytest.mark.parametrize(
    ("spec", "observed", "ready", "others"),
    [
        ({}, observe(), (NO, "Progressing"), "TF???"),
        ({}, observe(FETCHING), (NO, "Progressing"), "TFTFF"),
        ({}, observe(report(ready_peers=("a",))), (NO, "Progressing"), "TFTTF"),
        ({}, observe(report()), (YES, "Distributed"), "FFTTT"),
        ({}, observe(PASSING), (NO, "SourceRefused"), "TFFFF"),
        ({}, observe(FINAL), (NO, "DigestMismatch"), "FTTFF"),
        ({}, observe(ON_NODE), (NO, "NodeDiskFull"), "TFTTF"),
        ({}, observe(report(attempt="0/")), (NO, "Progressing"), "TF???"),
        ({}, observe(report(task_id="other")), (NO, "Progressing"), "TF???"),
        ({}, observe(away="timeout"), (NO, "SupernodeUnavailable"), "TF???"),
        ({}, observe(report(), targets=Targets()), (NO, "NoNodeMatches"), "FTTTF"),
        ({}, observe(targets=Targets(), reported=False), (NO, "Progressing"), "TF???"),
        ({}, observe(report(), owner=OWNER), (NO, "PathConflict"), "FTTTF"),
        ({}, observe(report(), targets=Targets(ALL)), (NO, "Progressing"), "TFTTF"),
        ({"path": "/etc/x"}, observe(report()), (NO, "PathOutsideRoot"), "FTTTF"),
        ({"path": "other/x"}, observe(report()), (NO, "PathOutsideNamespace"), "FTTTF"),
        ({"depth": "Supernode"}, observe(report(ready_peers=())), (YES, "Cached"), "FFTTF"),
        ({"depth": "Supernode"}, observe(FETCHING), (NO, "Progressing"), "TFTFF"),
        ({"source": {"image": "x"}}, observe(), (NO, "SourceUnsupported"), "FTF??"),
        (PRIVATE, observe(secret=Absent()), (NO, "SecretMissing"), "FTF??"),
        (PRIVATE, observe(secret=Denied("no")), (NO, "SecretForbidden"), "FTF??"),
        (PRIVATE, observe(secret=Unread()), (NO, "Progressing"), "TF???"),
        ({"suspend": True}, observe(report()), (YES, "Distributed"), "FFTTT"),
        ({"suspend": True}, observe(FETCHING), (NO, "Suspended"), "FFTFF"),
        ({"suspend": True}, observe(FINAL), (NO, "Suspended"), "FFTFF"),
    ],
)
def test_conditions(spec: dict[str, Any], observed: ObservedTask, ready: tuple[str, str], others: str) -> None:
    """The first plan sets all six. ``others``: Reconciling, Stalled, SourceResolved, Cached and Distributed."""
    result = statuses(plan(task(**spec), observed, PATHS, NOW))
    assert ready == result.pop("Ready")
    names = ("Reconciling", "Stalled", "SourceResolved", "Cached", "Distributed")
    values = {"T": YES, "F": NO, "?": UNKNOWN}
    expected = {kind: values[letter] for kind, letter in zip(names, others, strict=True)}
    assert expected == {kind: status for kind, (status, _) in result.items()}


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.INTERNAL])
def test_a_failure_says_what_to_do(reason: Reason) -> None:
    failure = Failure(reason.value, "it happened", final=True)
    result = plan(task(), observe(report(failure=failure, ready_peers=())), PATHS, NOW)
    stalled = find(result.status.conditions, "Stalled")
    assert stalled is not None
    again = "All retries failed. To try again, set the annotation pantala.dev/requested-at to a new value."
    given_up = f" {again}" if reason.retry is Retry.SOON else ""
    assert f"it happened. {reason.action}{given_up}" == stalled.message


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("SourceNotFound", NO),
        ("SourceTimeout", NO),
        ("DigestMismatch", YES),
        ("LengthMismatch", YES),
        ("VolumeFull", YES),
        ("VolumeFailed", UNKNOWN),
    ],
)
def test_a_failure_after_the_answer_is_not_the_sources(reason: str, status: str) -> None:
    observed = observe(msgspec.structs.replace(PASSING, failure=Failure(reason, "it happened")))
    assert status == statuses(plan(task(), observed, PATHS, NOW))["SourceResolved"][0]


def test_the_status_has_the_supernodes_numbers() -> None:
    status = plan(task(), observe(report(ready_peers=("a",), active_peers=("b",))), PATHS, NOW).status
    told = msgspec.to_builtins(status)
    del told["conditions"]
    assert {
        "observedGeneration": 1,
        "taskID": task_id.compute(URL),
        "cdnStatus": "SUCCESS",
        "path": "ns/t",
        "contentLength": 1536 * 1024,
        "size": "1.5Mi",
        "digest": "sha256:" + "a" * 64,
        "pieceSize": 1 << 17,
        "pieces": {"total": 12, "cached": 12},
        "peers": {"desired": 3, "ready": 1, "active": 1, "failed": 0, "waiting": 1, "late": 0},
        "summary": "1/3",
        "progress": "50%",
        "bytes": {"origin": 10, "fromSupernode": 20, "fromPeers": 30, "distributed": 50, "originSize": "10"},
        "startTime": "2026-01-01T00:00:00Z",
    } == told


@pytest.mark.parametrize(("cached", "sent", "active"), [(0, 0, 0), (1, 0, 2), (0, 1, 2)])
def test_no_node_downloads_before_the_supernode_has_a_byte(cached: int, sent: int, active: int) -> None:
    """The nodes are connected and want the file, but the origin does not send it."""
    said = report(ready_peers=(), active=2, pieces_cached=cached, supernode_bytes=sent, peer_bytes=0)
    peers = plan(task(), observe(said), PATHS, NOW).status.peers
    assert peers is not None
    assert (active, len(ALL) - active) == (peers.active, peers.waiting)


def test_at_most_ten_failures_are_listed() -> None:
    failures = tuple(Failure("NodeDiskFull", "full", peer=f"n{n}") for n in range(12))
    names = tuple(each.peer for each in failures)
    observed = observe(report(ready_peers=(), failures=failures), targets=Targets(names, frozenset(names)))
    status = plan(task(), observed, PATHS, NOW).status
    assert [f"n{n}" for n in range(10)] == [each.node for each in status.failures]


def test_planning_again_changes_nothing() -> None:
    for observed in (observe(), observe(FETCHING), observe(report()), observe(FINAL), observe(ON_NODE)):
        first = after(task(), observed)
        again = plan(first, observed, PATHS, NOW + timedelta(hours=1))
        assert first.status == again.status


def test_each_transition_causes_one_event() -> None:
    def told(each: TaskResource, observed: ObservedTask) -> list[tuple[bool, str]]:
        conditions = plan(each, observed, PATHS, NOW).status.conditions
        return [(notice.warning, notice.reason) for notice in notices(each.status.conditions, conditions)]

    fresh = task()
    assert [] == told(fresh, observe())
    assert [(True, "SourceRefused")] == told(fresh, observe(PASSING))
    refused = after(fresh, observe(PASSING))
    assert [] == told(refused, observe(PASSING))
    assert [(True, "DigestMismatch")] == told(refused, observe(FINAL))
    assert [(False, "Distributed")] == told(refused, observe(report()))


def test_an_edit_is_not_done_before_the_supernode_reports_it() -> None:
    """But every condition has the new generation at once."""
    done = after(task(), observe(report()))
    edited = msgspec.structs.replace(task(generation=2, priority=1), status=done.status)
    result = plan(edited, observe(report()), PATHS, NOW)
    assert (NO, "Progressing") == statuses(result)["Ready"]
    assert {2} == {each.observed_generation for each in result.status.conditions}
    assert result.settling
    result = plan(edited, observe(report(attempt="2/")), PATHS, NOW)
    assert (YES, "Distributed") == statuses(result)["Ready"]
    assert not result.settling


@pytest.mark.parametrize("observed", [observe(), observe(away="timeout"), observe(report(), away="timeout")])
def test_a_finished_task_stays_finished_while_nothing_is_known(observed: ObservedTask) -> None:
    """A restart of the operator or of the supernode, or an outage, costs no write."""
    done = after(task(), observe(report()))
    result = plan(done, observed, PATHS, NOW + timedelta(hours=1))
    assert done.status == result.status
    assert result.wanted is not None


def test_numbers_stay_while_the_supernode_does_not_know_them() -> None:
    half = after(task(), observe(report(ready_peers=("a",))))
    status = plan(half, observe(), PATHS, NOW).status
    assert ("1.5Mi", "SUCCESS") == (status.size, status.cdn_status)
    assert is_true(status.conditions, ConditionType.CACHED)


def test_a_new_node_makes_it_unfinished_but_keeps_the_completion_time() -> None:
    done = after(task(activeDeadlineSeconds=60), observe(report()))
    four = observe(report(), targets=Targets((*ALL, "d"), frozenset({*ALL, "d"})))
    result = plan(done, four, PATHS, NOW + timedelta(hours=1))
    assert (NO, "Progressing") == statuses(result)["Ready"]
    assert NOW == result.status.completion_time


def test_the_deadline() -> None:
    """It stalls the Task, and ends fetching and delivery. A new attempt has its own deadline."""
    each = after(task(activeDeadlineSeconds=60), observe(FETCHING))
    deadline = NOW + timedelta(seconds=60)
    assert deadline == plan(each, observe(FETCHING), PATHS, deadline - timedelta(seconds=1)).wake_at
    result = plan(each, observe(FETCHING), PATHS, deadline)
    assert (YES, "DeadlineExceeded") == statuses(result)["Stalled"]
    assert result.wanted is not None
    assert result.wanted.suspended
    assert (YES, "Distributed") == statuses(plan(each, observe(report()), PATHS, deadline))["Ready"]
    asked = task(activeDeadlineSeconds=60, annotations={"pantala.dev/requested-at": "x"})
    asked = msgspec.structs.replace(asked, status=result.status)
    result = plan(asked, observe(FETCHING), PATHS, deadline)
    assert (NO, "Progressing") == statuses(result)["Ready"]
    assert ("x", deadline) == (result.status.last_handled_request, result.status.start_time)


@pytest.mark.parametrize(
    ("observed", "expires"),
    [
        (observe(report()), True),
        (observe(FINAL), True),
        (observe(PASSING), False),
        (observe(RARELY), False),
        (observe(targets=Targets()), False),
    ],
    ids=["done", "failed for good", "tried soon", "tried rarely", "may heal"],
)
def test_the_time_to_live_begins_at_the_end(observed: ObservedTask, expires: bool) -> None:
    each = after(task(ttlSecondsAfterFinished=60), observed)
    end = NOW + timedelta(seconds=60)
    early = plan(each, observed, PATHS, end - timedelta(seconds=1))
    assert (False, end if expires else None) == (early.delete, early.wake_at)
    assert expires == plan(each, observed, PATHS, end).delete


def test_the_time_to_live_begins_at_the_deadline_also_for_a_task_that_was_stalled_before() -> None:
    """No node matches, so the Task is stalled from its start. Its user still sees for a minute why it has failed."""
    spec: dict[str, Any] = {"activeDeadlineSeconds": 3600, "ttlSecondsAfterFinished": 60}
    observed, deadline = observe(targets=Targets()), NOW + timedelta(seconds=3600)
    each = after(task(**spec), observed)
    result = plan(each, observed, PATHS, deadline)
    assert (YES, "DeadlineExceeded", False) == (*statuses(result)["Stalled"], result.delete)
    end = deadline + timedelta(seconds=60)
    assert end == result.wake_at
    each = msgspec.structs.replace(each, status=result.status)
    assert plan(each, observed, PATHS, end).delete


def test_the_statement() -> None:
    asked = task({"pantala.dev/requested-at": "now"}, priority=5, retry={"limit": 2})
    wanted = plan(asked, observe(), PATHS, NOW).wanted
    assert wanted is not None
    told = (wanted.name, wanted.path, wanted.peers, wanted.priority, wanted.retry_limit, wanted.attempt)
    assert ("ns/t", "ns/t", ALL, 5, 2, "1/now") == told


@pytest.mark.parametrize(
    ("spec", "observed"),
    [({"depth": "Supernode"}, observe()), ({"path": "/etc/x"}, observe()), ({}, observe(owner=OWNER))],
)
def test_a_file_that_no_node_may_get_is_still_cached(spec: dict[str, Any], observed: ObservedTask) -> None:
    """A problem of the delivery does not concern the source: once it is solved, the file is delivered at once."""
    wanted = plan(task(**spec), observed, PATHS, NOW).wanted
    assert wanted is not None
    assert ("", ()) == (wanted.path, wanted.peers)


def test_m1_a_namespace_with_too_many_tasks_gets_the_oldest_ones() -> None:
    limit = Quotas(Quota(tasks=2), {"free": Quota()})
    made = [task() for _ in range(4)]
    tasks = [
        msgspec.structs.replace(
            each,
            metadata=msgspec.structs.replace(
                each.metadata, uid=f"u{number}", creation_timestamp=NOW - timedelta(seconds=number)
            ),
        )
        for number, each in enumerate(made)
    ]
    excess = task_quota.excess(tasks, limit)
    assert {"u0", "u1"} == excess.keys()
    result = plan(tasks[0], replace(observe(), excess=excess["u0"]), PATHS, NOW)
    assert result.wanted is None
    conditions = statuses(result)
    assert (NO, "QuotaExceeded") == conditions["Ready"]
    assert (YES, "QuotaExceeded") == conditions["Stalled"]
    assert {} == task_quota.excess(tasks, Quotas(Quota(), {"other": Quota(tasks=0)}))
