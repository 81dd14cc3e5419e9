"""Two namespaces share a copy only if both send the same request to the origin, without credentials."""

from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given

from pantala_operator.plan import statement
from pantala_operator.plan.statement import TaskOrigin
from pantala_operator.resources.api import Metadata, Secret, TaskResource
from pantala_protocol import task_id
from pantala_supernode.dragonfly.wire import MalformedRequestError, check_registration

NAMESPACES = st.sampled_from(["a", "b"])
PARAMETERS = ["sig", "version", "x", ""]
URLS = st.builds(
    lambda host, path, query: f"https://{host}/{path}" + ("?" + "&".join(query) if query else ""),
    st.sampled_from(["o", "O", "o:443", "other"]),
    st.sampled_from(["f", "F", "f%2f", "f/", "f?"]),
    st.lists(st.builds("{}{}".format, st.sampled_from(PARAMETERS), st.sampled_from(["", "=", "=1", "=2"])), max_size=3),
)
DIGESTS = st.sampled_from(["", f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"])


@st.composite
def tasks(draw: st.DrawFn) -> TaskResource:
    spec: dict[str, Any] = {
        "source": {"url": draw(URLS)},
        "digest": draw(DIGESTS),
        "filterQueryParams": draw(st.lists(st.sampled_from(PARAMETERS), unique=True)),
    }
    if draw(st.booleans()):
        spec["headersFrom"] = {"secretRef": {"name": "s"}}
    metadata = {"name": "t", "namespace": draw(NAMESPACES), "uid": "u"}
    return msgspec.convert({"metadata": metadata, "spec": spec}, TaskResource)


def named(task: TaskResource) -> str:
    origin = statement.origin(
        task, Secret(Metadata("s", uid="s", labels={"pantala.dev/allow": "tasks"}), {"Authorization": "eA=="})
    )
    assert isinstance(origin, TaskOrigin)
    return origin.task_id


@given(tasks(), tasks())
def test_c2_namespaces_share_only_what_both_may_read(one: TaskResource, other: TaskResource) -> None:
    if one.metadata.namespace == other.metadata.namespace or named(one) != named(other):
        return
    assert one.spec.source == other.spec.source
    assert one.spec.digest == other.spec.digest
    assert one.spec.headers_from is None
    assert other.spec.headers_from is None


@given(tasks())
def test_c2_a_filtered_parameter_keeps_a_task_in_its_namespace(task: TaskResource) -> None:
    """A digest does not change this: it is public, and a wrong signature of one tenant must not block the other."""
    moved = msgspec.structs.replace(
        task, metadata=msgspec.structs.replace(task.metadata, namespace="c"), spec=task.spec
    )
    filtered = task_id.without_query_parameters(task.spec.source.url, task.spec.filter_query_params)
    shared = filtered == task.spec.source.url and task.spec.headers_from is None
    assert shared == (named(task) == named(moved))


@given(tasks(), URLS, st.booleans(), st.sampled_from(["", "i"]), st.sampled_from([[], ["accept: a"], ["x: a"]]))
def test_c2_clients_of_dragonfly_share_only_tasks_with_the_same_request(
    task: TaskResource, url: str, whole: bool, identifier: str, headers: list[str]
) -> None:
    named_by = url if whole else url.partition("?")[0]
    sent = {"rawUrl": url, "taskUrl": named_by, "cid": "c", "identifier": identifier, "headers": headers}
    try:
        registration = check_registration(sent)
    except MalformedRequestError:
        return
    if registration.task_id == named(task):
        assert (url, task.spec.headers_from, headers, identifier) == (task.spec.source.url, None, [], "")
        assert named_by == url
