"""The API server refuses what the CRDs forbid, and names the field."""

import http.client
import json
import ssl
from pathlib import Path

import msgspec
import pytest
import yaml

from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_protocol.rules.selection import Taint
from testbed.apiserver import ControlPlane
from tests.controlplane import crd_tables as tables
from tests.controlplane.crd_tables import SHA256, SHA512, URL, Object, condition
from tests.support.prefetch import World, cluster, node

pytestmark = pytest.mark.controlplane

ROOT = Path(__file__).resolve().parents[2]
API_VERSION = "pantala.dev/v1alpha1"
DEFAULT = f"/apis/{API_VERSION}/namespaces/default"
TASKS = f"{DEFAULT}/tasks"
PEERS = f"/apis/{API_VERSION}/peers"
_PLURALS = {"Task": "tasks", "ImagePrefetch": "imageprefetches", "SourcePolicy": "sourcepolicies"}
UNREACHABLE = Taint("node.kubernetes.io/unreachable", "NoExecute")
STRICT = "dryRun=All&fieldValidation=Strict"


class API:
    """The API server by plain HTTP, as an administrator."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.kubectl = control_plane.kubectl
        self._port = control_plane.port
        user = yaml.safe_load(control_plane.kubeconfig.read_text())["users"][0]["user"]
        self._tls = ssl.create_default_context(cafile=str(control_plane.certificate_authority))
        self._tls.load_cert_chain(user["client-certificate"], user["client-key"])

    def call(self, method: str, path: str, body: Object | None = None, kind: str = "json") -> tuple[int, Object]:
        """One request. Returns the status and the answer."""
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=20, context=self._tls)
        try:
            headers = {"Content-Type": f"application/{kind}"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def create(self, spec: Object, kind: str = "Task") -> tuple[int, Object]:
        """Create a Task, an ImagePrefetch or a SourcePolicy as a dry run."""
        place = DEFAULT.partition("/namespaces/")[0] if kind == "SourcePolicy" else DEFAULT
        return self.call("POST", f"{place}/{_PLURALS[kind]}?{STRICT}", resource("dry", spec, kind))

    def merge(self, path: str, change: Object) -> tuple[int, Object]:
        """Change an object as a dry run."""
        return self.call("PATCH", f"{path}?{STRICT}", change, "merge-patch+json")

    def apply_status(self, path: str, body: Object, status: Object) -> Object:
        """Apply a whole status. Returns the object."""
        query = "fieldManager=test&force=true&fieldValidation=Strict"
        code, answer = self.call("PATCH", f"{path}/status?{query}", {**body, "status": status}, "apply-patch+yaml")
        assert 200 == code, answer
        return answer

    def established(self, crd: str) -> bool:
        """True if the API server serves a kind. Its schema must be structural."""
        _, body = self.call("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}")
        conditions = {each["type"]: each["status"] for each in body["status"].get("conditions", [])}
        assert "NonStructuralSchema" not in conditions
        return conditions.get("Established") == "True"


def resource(name: str, spec: Object | None = None, kind: str = "Task") -> Object:
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}}
    return body if spec is None else {**body, "spec": spec}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> API:
    api = API(control_plane)
    assert all(
        api.established(f"{name}.pantala.dev") for name in ("tasks", "imageprefetches", "peers", "sourcepolicies")
    )
    return api


@pytest.fixture(scope="module")
def stored(api: API) -> str:
    """A Task that has every immutable field."""
    spec = {"source": {"url": URL}, "digest": SHA256, "filterQueryParams": ["expires", "signature"], "path": "a/b"}
    return _store(api, "whole", spec)


@pytest.fixture(scope="module")
def bare(api: API) -> str:
    """A Task with required fields only."""
    return _store(api, "bare", {"source": {"url": URL}})


def _store(api: API, name: str, spec: Object, kind: str = "Task") -> str:
    path = f"{DEFAULT}/{_PLURALS[kind]}"
    status, body = api.call("POST", path, resource(name, spec, kind))
    assert 201 == status, body["message"]
    return f"{path}/{name}"


SPECS = {"Task": tables.task, "ImagePrefetch": tables.prefetch, "SourcePolicy": tables.policy}
REFUSED = [("Task", *row) for row in tables.BAD_TASKS]
REFUSED += [("ImagePrefetch", *row) for row in tables.BAD_PREFETCHES]
REFUSED += [("SourcePolicy", *row) for row in tables.BAD_POLICIES]
ACCEPTED = [("Task", spec) for spec in tables.GOOD_TASKS]
ACCEPTED += [("ImagePrefetch", spec) for spec in tables.GOOD_PREFETCHES]
ACCEPTED += [("SourcePolicy", spec) for spec in tables.GOOD_POLICIES]


@pytest.mark.parametrize(("kind", "spec", "expected"), REFUSED, ids=lambda value: str(value)[:70])
def test_refuses_with_the_field_named(api: API, kind: str, spec: Object, expected: str) -> None:
    """``expected`` is ``field: kind of error: part of the message``."""
    status, body = api.create(spec, kind)
    assert 422 == status, body
    field, error, *text = expected.split(": ", 2)
    causes = [f"{cause['field']}: {cause['message']}" for cause in body["details"]["causes"]]
    # The API server shows the value, or its type, between the two parts of a message.
    assert [each for each in causes if each.startswith(f"{field}: {error}") and "".join(text) in each], causes


@pytest.mark.parametrize(("kind", "spec"), ACCEPTED, ids=lambda value: str(value)[:70])
def test_accepts(api: API, kind: str, spec: Object) -> None:
    status, body = api.create(spec, kind)
    assert 201 == status, body["message"]


@pytest.mark.parametrize("kind", SPECS)
def test_a_misspelt_field_is_refused(api: API, kind: str) -> None:
    status, body = api.create(SPECS[kind](misspelt=1), kind)
    assert 400 == status
    assert 'unknown field "spec.misspelt"' in body["message"]


def test_defaults_are_filled_in(api: API) -> None:
    _, body = api.create(tables.task(target={"tolerations": [{"key": "a"}]}))
    tolerations = [{"key": "a", "operator": "Equal"}]
    expected = tables.task(depth="Peer", priority=0, suspend=False, target={"tolerations": tolerations})
    assert expected == body["spec"]
    spec = tables.prefetch(rollout={}, retry={}, schedule=tables.NIGHTLY, retention={})
    _, body = api.create(spec, "ImagePrefetch")
    expected = tables.prefetch(
        rollout={"perNode": 1},
        retry={"backoffSeconds": 10},
        schedule={**tables.NIGHTLY, "timeZone": "Etc/UTC"},
        retention={"pin": False},
        timeoutSecondsPerNode=600,
        completionPolicy="Once",
        updatePolicy="Pin",
        mode="Run",
        suspend=False,
    )
    assert expected == body["spec"]


IMMUTABLE = [
    ({"source": {"url": URL + "2"}}, "spec.source"),
    ({"source": {"url": None, "image": "a"}}, "spec.source"),
    ({"digest": SHA512}, "spec.digest"),
    ({"digest": None}, "spec.digest"),
    ({"filterQueryParams": ["expires"]}, "spec.filterQueryParams"),
    ({"filterQueryParams": None}, "spec.filterQueryParams"),
]


@pytest.mark.parametrize(("change", "field"), IMMUTABLE, ids=str)
def test_fields_that_name_the_content_cannot_change(api: API, stored: str, change: Object, field: str) -> None:
    status, body = api.merge(stored, {"spec": change})
    assert 422 == status
    expected = {"field": field, "message": f"Forbidden: {field} is immutable; create a new Task"}
    assert expected in [{"field": each["field"], "message": each["message"]} for each in body["details"]["causes"]]


@pytest.mark.parametrize("change", [{"digest": SHA256}, {"filterQueryParams": ["a"]}], ids=str)
def test_fields_that_name_the_content_cannot_be_added(api: API, bare: str, change: Object) -> None:
    status, body = api.merge(bare, {"spec": change})
    assert 422 == status
    assert f"spec.{next(iter(change))} is immutable; create a new Task" in body["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"path": "c"},
        {"path": None, "depth": "Supernode"},
        {"suspend": True},
        {"target": {"count": 2}},
        {"priority": 7},
        {"headersFrom": {"secretRef": {"name": "a"}}},
        {"filterQueryParams": ["signature", "expires"]},
    ],
    ids=str,
)
def test_other_fields_can_change(api: API, stored: str, change: Object) -> None:
    status, body = api.merge(stored, {"spec": change})
    assert 200 == status, body["message"]


def test_status_is_a_subresource(api: API, bare: str) -> None:
    """A write to the Task ignores its status. A write to /status changes neither spec nor generation."""
    before = api.call("GET", bare)[1]
    api.call("PATCH", bare, {"status": {"summary": "9/9"}}, "merge-patch+json")
    assert "status" not in api.call("GET", bare)[1]
    api.call("PATCH", f"{bare}/status", {"spec": {"suspend": True}, "status": {"summary": "1/3"}}, "merge-patch+json")
    after = api.call("GET", bare)[1]
    expected = (before["spec"], before["metadata"]["generation"], {"summary": "1/3"})
    assert expected == (after["spec"], after["metadata"]["generation"], after["status"])


def _words(line: str, first: int | None = None, last: int | None = None) -> str:
    return " ".join(line.split()[first:last])


@pytest.mark.parametrize(
    ("kind", "status", "short", "columns", "wide"),
    [
        (
            "Task",
            tables.TASK_STATUS,
            "ptask",
            ("NAME READY REASON PROGRESS PEERS SIZE AGE", "columns True Why 42% 2/3 8Gi"),
            ("ORIGIN BYTES PATH", "8Gi default/columns"),
        ),
        (
            "ImagePrefetch",
            tables.PREFETCH_STATUS,
            "imgp",
            ("NAME READY REASON PROGRESS NODES SIZE AGE", "columns True Why 42% 2/3 8Gi"),
            ("FAILED BYTES/S NEXT RUN", f"0 {2**27}"),
        ),
    ],
    ids=["Task", "ImagePrefetch"],
)
def test_the_whole_status_can_be_applied_and_is_shown_in_columns(
    api: API, kind: str, status: Object, short: str, columns: tuple[str, str], wide: tuple[str, str]
) -> None:
    path = _store(api, "columns", SPECS[kind](), kind)
    assert status == api.apply_status(path, resource("columns", kind=kind), status)["status"]
    header, row = api.kubectl("get", short, "columns").splitlines()
    assert columns == (_words(header), _words(row, 0, 6))
    header, row = api.kubectl("get", kind.lower(), "columns", "-o", "wide").splitlines()
    assert wide == (_words(header, 7), _words(row, 7, 9))
    api.kubectl("wait", "--for=condition=Ready", f"{short}/columns", "--timeout=5s")
    assert f"{kind.lower()}.pantala.dev/columns" in api.kubectl("get", "pantala", "-o", "name")


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"conditions": [condition("Ready", "True"), condition("Ready", "False")]}, "status.conditions[1]"),
        ({"conditions": [condition("Ready", "Maybe")]}, "status.conditions[0].status"),
        ({"conditions": [condition("Ready", "True", reason="")]}, "status.conditions[0].reason"),
        ({"conditions": [condition("Ready", "True", reason="not one word")]}, "status.conditions[0].reason"),
        ({"conditions": [condition("Ready", "True", lastTransitionTime="today")]}, "lastTransitionTime"),
        ({"cdnStatus": "DONE"}, "status.cdnStatus"),
        ({"failures": [{"node": "a", "reason": "B"}] * 11}, "status.failures"),
        ({"contentLength": -1}, "status.contentLength"),
        ({"bytes": {"origin": "much"}}, "status.bytes.origin"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_status_is_refused(api: API, bare: str, status: Object, field: str) -> None:
    code, body = api.merge(f"{bare}/status", {"status": status})
    assert 422 == code
    assert field in body["message"]


def test_a_peer_has_defaults_columns_and_a_status(api: API) -> None:
    peer = resource("node1", kind="Peer")
    status, body = api.call("POST", f"{PEERS}?fieldValidation=Strict", peer)
    expected: object = (201, {"unschedulable": False})
    assert expected == (status, body.get("spec"))
    seen = {
        "observedGeneration": 1,
        "conditions": [condition("Ready", "True", observedGeneration=1)],
        "address": "10.0.0.1:65002",
        "zone": "a",
        "version": "0.1.0",
        "cache": {"bytes": 2**40, "size": "1Ti", "tasks": 3},
        "runtime": {"name": "containerd", "version": "2.0.0"},
        "uploads": 1,
        "succeeded": 2**40,
        "failed": 1,
    }
    assert seen == api.apply_status(f"{PEERS}/node1", peer, seen).get("status")
    header, row = api.kubectl("get", "ppeer").splitlines()
    expected = "NAME READY ADDRESS ZONE CACHE AGE", "node1 True 10.0.0.1:65002 a 1Ti"
    assert expected == (_words(header), _words(row, 0, 5))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("spec.depth=Supernode", ["shallow"]), ("spec.source.url=http://origin.example/shallow", ["shallow"])],
)
def test_tasks_are_selected_by_field(api: API, bare: str, selector: str, expected: list[str]) -> None:
    spec = {"source": {"url": "http://origin.example/shallow"}, "depth": "Supernode"}
    api.call("POST", TASKS, resource("shallow", spec))
    names = api.kubectl("get", "ptask", "--field-selector", selector, "-o", "jsonpath={.items[*].metadata.name}")
    assert expected == names.split()


def test_the_results_of_a_plan_are_accepted_unchanged(api: API) -> None:
    """Neither in its Tasks nor in its status is a field refused, dropped or changed."""
    planned = _store(api, "planned", tables.images("one:1", "two:2", retention={"pin": True}), "ImagePrefetch")
    stored = api.call("GET", planned)[1]
    world = World(msgspec.convert(stored, ImagePrefetch), cluster(node("a"), node("b", UNREACHABLE)))
    tasks = world.turn(2).tasks.apply
    made = world.settle()
    assert 2 == len(tasks)
    for body in tasks:
        query = "fieldManager=pantala-operator&force=true&fieldValidation=Strict"
        status, answer = api.call(
            "PATCH", f"{TASKS}/{body['metadata']['name']}?{query}", dict(body), "apply-patch+yaml"
        )
        assert 201 == status, answer["message"]
        assert answer["spec"].items() >= body["spec"].items()
    shown = msgspec.json.decode(msgspec.json.encode(made.status))
    answer = api.apply_status(planned, resource("planned", kind="ImagePrefetch"), shown)
    assert shown == answer.get("status")
    assert made.status == msgspec.convert(answer, ImagePrefetch).status


@pytest.mark.parametrize("sample", sorted((ROOT / "crds" / "samples").glob("*.yaml")), ids=lambda path: path.name)
@pytest.mark.parametrize("mode", ["--server-side", "--validate=strict"])
def test_samples_apply_as_they_are(api: API, sample: Path, mode: str) -> None:
    applied = api.kubectl("apply", "--dry-run=server", mode, "-f", str(sample))
    assert applied.count("\n") == len(list(yaml.safe_load_all(sample.read_text())))
