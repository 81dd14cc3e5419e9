"""What the plan of a Task promises for any spec and any report."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.secrets import Absent, Denied, SecretReading, Unread
from pantala_operator.plan.targets import Targets
from pantala_operator.plan.task import ObservedTask, plan
from pantala_operator.resources.api import Metadata, Secret
from pantala_operator.resources.conditions import ConditionType
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus, Failure
from tests.support.task_plans import ALL, ALLOWED, NOW, OWNER, PATHS, URL, YES, after, observe, report, task

SECRETS: list[SecretReading] = [
    Unread(),
    Absent(),
    Denied("no"),
    Secret(Metadata("s", uid="s", labels=ALLOWED), {"A": "eA=="}),
]
REPORTS = st.builds(
    report,
    attempt=st.sampled_from(["1/", "0/"]),
    cdn_status=st.sampled_from(CDNStatus),
    length=st.none() | st.just(100),
    pieces_total=st.none() | st.just(12),
    ready_peers=st.sampled_from([(), ("a",), ALL]),
    failure=st.none() | st.builds(Failure, st.sampled_from([*Reason, "New"]), st.text(max_size=5), st.booleans()),
    failures=st.sampled_from([(), (Failure("NodeDiskFull", "full", peer="b"),)]),
)
OBSERVED = st.builds(
    lambda said, **rest: observe(said, **rest),
    st.none() | REPORTS,
    secret=st.sampled_from(SECRETS),
    targets=st.sampled_from([Targets(), Targets(ALL), Targets(ALL, frozenset("ab")), Targets(ALL, frozenset(ALL))]),
    owner=st.sampled_from([None, OWNER]),
    reported=st.booleans(),
    away=st.sampled_from(["", "timeout"]),
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "headersFrom": st.just({"secretRef": {"name": "s"}}),
        "depth": st.sampled_from(["Supernode", "Peer"]),
        "path": st.sampled_from(["ns/x", "x", "/etc/x"]),
        "suspend": st.booleans(),
        "activeDeadlineSeconds": st.just(60),
        "source": st.sampled_from([{"image": "x"}, {"url": URL}]),
    },
)


@given(SPECS, st.lists(OBSERVED, min_size=1, max_size=4))
def test_conditions_never_contradict_each_other(spec: dict[str, Any], seen: list[ObservedTask]) -> None:
    """In every sequence kstatus' rules hold, and every condition has a message."""
    each, now = task(**spec), NOW
    for observed in seen:
        now += timedelta(seconds=40)
        each = after(each, observed, now)
        conditions = each.status.conditions
        assert set(ConditionType) == {condition.type for condition in conditions}
        assert len(ConditionType) == len(conditions)
        true = {condition.type for condition in conditions if condition.status == YES}
        summary = true & {"Ready", "Reconciling", "Stalled"}
        assert len(summary) == (0 if spec.get("suspend") and "Ready" not in true else 1)
        assert all(condition.reason and condition.message for condition in conditions)
        assert {1} == {condition.observed_generation for condition in conditions}


@given(SPECS, OBSERVED, st.integers(0, 100))
def test_the_statement_depends_on_the_inputs_only(spec: dict[str, Any], observed: ObservedTask, seconds: int) -> None:
    each, now = task(**spec), NOW + timedelta(seconds=seconds)
    assert plan(each, observed, PATHS, now) == plan(each, observed, PATHS, now)
    again = after(each, observed, now)
    assert plan(each, observed, PATHS, now).wanted == plan(again, observed, PATHS, now).wanted
