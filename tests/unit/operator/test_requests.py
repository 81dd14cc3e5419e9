"""Users request another attempt with an annotation, and the API server lets its value have any length."""

import msgspec
import pytest

from pantala_operator.resources.api import Metadata, TaskResource, TaskSource, TaskSpec, TaskStatus
from pantala_operator.resources.prefetch import PrefetchStatus
from pantala_protocol.rules.fields import decode
from pantala_protocol.rules.requests import REQUESTED_AT
from pantala_protocol.statement import TaskReport
from tests.support.prefetch import prefetch, schema


def task(value: str) -> TaskResource:
    metadata = Metadata("t", "ns", uid="u", generation=1, annotations={REQUESTED_AT: value})
    return TaskResource(metadata, TaskSpec(TaskSource("http://origin.example/f")))


@pytest.mark.parametrize("length", [1, 1024, 1025, 9000, 200_000])
def test_t2_a_request_fits_into_reports_and_statuses(length: int) -> None:
    """One report that the operator cannot read would hide those about the Tasks of all other namespaces."""
    each = task("x" * length)
    report = TaskReport(each.metadata.uid, "f" * 64, each.attempt)
    assert report == decode(msgspec.json.encode(report), TaskReport)
    images = prefetch(annotations={REQUESTED_AT: "x" * length})
    for kind, status in (
        ("tasks", TaskStatus(last_handled_request=each.requested_at)),
        ("imageprefetches", PrefetchStatus(last_handled_request=images.requested_at)),
    ):
        schema(kind, "status").validate(msgspec.to_builtins(status))


def test_each_new_value_is_another_request() -> None:
    values = ["", "x", "x" * 1024, "x" * 1025, "x" * 1026, "x" * 1025 + "y"]
    assert len(values) == len({task(value).attempt for value in values})
    assert "x" * 1024 == task("x" * 1024).requested_at
    assert task("x" * 2000).attempt == task("x" * 2000).attempt


def test_the_removal_of_a_request_is_not_another_attempt() -> None:
    former = task("x")
    metadata = msgspec.structs.replace(former.metadata, annotations={})
    removed = TaskResource(metadata, former.spec, TaskStatus(last_handled_request="x"))
    assert former.attempt == removed.attempt
