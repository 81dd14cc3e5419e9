"""The API server refuses what the CRDs forbid, and names the field."""

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.apiserver import ControlPlane

pytestmark = pytest.mark.controlplane

Object = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
API_VERSION = "pantala.dev/v1alpha1"
DEFAULT = f"/apis/{API_VERSION}/namespaces/default"
TASKS = f"{DEFAULT}/tasks"
PEERS = f"/apis/{API_VERSION}/peers"
_PLURALS = {"Task": "tasks", "ImagePrefetch": "imageprefetches"}
STRICT = "dryRun=All&fieldValidation=Strict"
URL = "http://origin.example/file"
SHA256 = "sha256:" + "a" * 64
SHA512 = "sha512:" + "b" * 128
NOW = "2026-01-01T00:00:00Z"


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
        """Create a Task or an ImagePrefetch as a dry run."""
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "dry"}, "spec": spec}
        return self.call("POST", f"{DEFAULT}/{_PLURALS[kind]}?{STRICT}", body)

    def assert_refused(self, spec: Object, expected: str, kind: str = "Task") -> None:
        """``expected`` is ``field: kind of error: part of the message``."""
        status, body = self.create(spec, kind)
        assert 422 == status, body
        field, error, *text = expected.split(": ", 2)
        causes = [f"{cause['field']}: {cause['message']}" for cause in body["details"]["causes"]]
        # The API server shows the value, or its type, between the two parts of a message.
        assert [each for each in causes if each.startswith(f"{field}: {error}") and "".join(text) in each], causes

    def merge(self, path: str, change: Object) -> tuple[int, Object]:
        """Change an object as a dry run."""
        return self.call("PATCH", f"{path}?{STRICT}", change, "merge-patch+json")

    def established(self, crd: str) -> bool:
        """True if the API server serves a kind. Its schema must be structural."""
        _, body = self.call("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}")
        conditions = {each["type"]: each["status"] for each in body["status"].get("conditions", [])}
        assert "NonStructuralSchema" not in conditions
        return conditions.get("Established") == "True"


def task(name: str, spec: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": "Task", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> API:
    api = API(control_plane)
    assert all(api.established(f"{name}.pantala.dev") for name in ("tasks", "imageprefetches", "peers"))
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


def _store(api: API, name: str, spec: Object) -> str:
    status, body = api.call("POST", TASKS, task(name, spec))
    assert 201 == status, body["message"]
    return f"{TASKS}/{name}"


def source(**values: str) -> Object:
    return {"source": values}


def extra(**values: object) -> Object:
    return {"source": {"url": URL}, **values}


def target(**values: object) -> Object:
    return extra(target=values)


def url(text: str) -> Object:
    return source(url=text)


REFUSED = [
    ({}, "spec.source: Required value"),
    (source(), "spec.source: Invalid value: set exactly one of url and image"),
    (source(url=URL, image="a"), "spec.source: Invalid value: set exactly one of url and image"),
    (url("ftp://host/file"), "spec.source.url: Invalid value: must begin with http:// or https://"),
    (url("file:///etc/passwd"), "spec.source.url: Invalid value: must begin with http:// or https://"),
    (url("http:///file"), "spec.source.url: Invalid value: must be a URL with a host"),
    (url("http://[::1/file"), "spec.source.url: Invalid value: must be a URL with a host"),
    (url("http://user:secret@host/file"), "spec.source.url: Invalid value: must not contain user info"),
    (url("http://token@host"), "spec.source.url: Invalid value: must not contain user info"),
    (url("http://host/file#part"), "spec.source.url: Invalid value: must not have a fragment"),
    (url("http://host/a b"), "spec.source.url: Invalid value: must be ASCII without spaces"),
    (url("http://höst/file"), "spec.source.url: Invalid value: must be ASCII without spaces"),
    (url("http://host/a\r\nb"), "spec.source.url: Invalid value: must be ASCII without spaces"),
    (url("http://host/" + "a" * 2048), "spec.source.url: Too long"),
    (source(image=""), "spec.source.image: Invalid value"),
    (source(image="a b"), "spec.source.image: Invalid value: must not contain spaces"),
    (source(image="a\nb"), "spec.source.image: Invalid value: must not contain spaces"),
    (source(image="a" * 513), "spec.source.image: Too long"),
    (extra(headersFrom={}), "spec.headersFrom.secretRef: Required value"),
    (extra(headersFrom={"secretRef": {}}), "spec.headersFrom.secretRef.name: Required value"),
    (extra(headersFrom={"secretRef": {"name": ""}}), "spec.headersFrom.secretRef.name: Invalid value"),
    (extra(digest="md5:" + "a" * 32), "spec.digest: Invalid value: must be sha256: with 64 or sha512: with 128"),
    (extra(digest="sha256:" + "A" * 64), "spec.digest: Invalid value: must be sha256:"),
    (extra(digest="sha256:" + "a" * 63), "spec.digest: Invalid value: must be sha256:"),
    (extra(digest="sha512:" + "a" * 64), "spec.digest: Invalid value: must be sha256:"),
    (extra(digest=SHA256 + "\n"), "spec.digest: Invalid value: must be sha256:"),
    (extra(digest=""), "spec.digest: Invalid value: must be sha256:"),
    (extra(filterQueryParams=["a", "a"]), "spec.filterQueryParams[1]: Duplicate value"),
    (extra(filterQueryParams=["a=b"]), "spec.filterQueryParams[0]: Invalid value: must be a parameter's name"),
    (extra(filterQueryParams=["a b"]), "spec.filterQueryParams[0]: Invalid value: must be a parameter's name"),
    (extra(filterQueryParams=[""]), "spec.filterQueryParams[0]: Invalid value"),
    (extra(filterQueryParams=[str(i) for i in range(33)]), "spec.filterQueryParams: Too many"),
    (extra(depth="Node"), "spec.depth: Unsupported value"),
    (extra(depth="Runtime"), "spec.depth: Invalid value: depth Runtime needs source.image"),
    (source(url=URL, platform="linux/amd64"), "spec.source: Invalid value: platform needs image"),
    (source(image="a", platform="amd64"), "spec.source.platform: Invalid value: must be os/architecture"),
    (extra(pullSecrets=["a"]), "spec.pullSecrets: Forbidden: spec.pullSecrets needs source.image"),
    (extra(retention={"pin": True}), "spec.retention: Forbidden: spec.retention needs depth Runtime"),
    ({**source(image="a"), "depth": "Runtime", "path": "a"}, "spec.path: Forbidden: spec.path needs depth Peer"),
    (extra(depth="Supernode", path="a"), "spec.path: Forbidden: spec.path needs depth Peer"),
    (target(count=1, percentage=1), "spec.target: Invalid value: set at most one of count and percentage"),
    (target(count=0), "spec.target.count: Invalid value"),
    (target(percentage=0), "spec.target.percentage: Invalid value"),
    (target(percentage=101), "spec.target.percentage: Invalid value"),
    (target(names=[]), "spec.target.names: Invalid value"),
    (target(names=["a", "a"]), "spec.target.names[1]: Duplicate value"),
    (target(nodeSelector={"a": "b" * 64}), "spec.target.nodeSelector.a: Too long"),
    (target(tolerations=[{}]), "spec.target.tolerations[0]: Invalid value: operator must be Exists when key is empty"),
    (
        target(tolerations=[{"key": "", "operator": "Equal"}]),
        "spec.target.tolerations[0]: Invalid value: operator must be Exists when key is empty",
    ),
    (
        target(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
        "spec.target.tolerations[0]: Invalid value: value must be empty when operator is Exists",
    ),
    (target(tolerations=[{"key": "a", "effect": "Never"}]), "spec.target.tolerations[0].effect: Unsupported value"),
    (extra(path=""), "spec.path: Invalid value"),
    (extra(path="a/"), "spec.path: Invalid value: must name a file, not end with a slash"),
    (extra(path="/"), "spec.path: Invalid value: must name a file, not end with a slash"),
    (extra(path="a//b"), "spec.path: Invalid value: must not contain an empty part"),
    (extra(path="//a"), "spec.path: Invalid value: must not contain an empty part"),
    (extra(path=".."), "spec.path: Invalid value: must not contain . or .."),
    (extra(path="../a"), "spec.path: Invalid value: must not contain . or .."),
    (extra(path="a/../b"), "spec.path: Invalid value: must not contain . or .."),
    (extra(path="a/./b"), "spec.path: Invalid value: must not contain . or .."),
    (extra(path="a/.."), "spec.path: Invalid value: must not contain . or .."),
    (extra(path="a\0b"), "spec.path: Invalid value: must not contain control characters"),
    (extra(path="a\nb"), "spec.path: Invalid value: must not contain control characters"),
    (extra(path="a/" + "b" * 256), "spec.path: Invalid value: must not have a part of more than 255 characters"),
    (extra(path="a/" * 512 + "b"), "spec.path: Too long"),
    (extra(retry={"limit": -1}), "spec.retry.limit: Invalid value"),
    (extra(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds: Invalid value"),
    (extra(ttlSecondsAfterFinished=-1), "spec.ttlSecondsAfterFinished: Invalid value"),
    (extra(priority=1001), "spec.priority: Invalid value"),
    (extra(priority=-1001), "spec.priority: Invalid value"),
    (extra(suspend="yes"), "spec.suspend: Invalid value"),
]

ACCEPTED = [
    url("https://host"),
    url("http://[2001:db8::1]:8080/a?b=c@d&e=f:g"),
    url("http://host/a@b:c"),
    url("http://host/" + "a" * 2036),
    source(image="registry.example:5000/a/b:1@" + SHA256),
    {**source(image="a:1", platform="linux/arm64"), "depth": "Runtime", "pullSecrets": ["a", "b"]},
    {**source(image="a@" + SHA256), "depth": "Runtime", "retention": {"pin": True}},
    extra(headersFrom={"secretRef": {"name": "credentials"}}),
    extra(digest=SHA256),
    extra(digest=SHA512),
    extra(filterQueryParams=["X-Amz-Signature", "a%20b"]),
    extra(filterQueryParams=[]),
    extra(depth="Supernode"),
    extra(depth="Supernode", target={"count": 1}),
    extra(depth="Peer", path="a"),
    target(),
    target(count=1),
    target(percentage=100),
    target(names=["node1", "node2"], nodeSelector={"topology.kubernetes.io/zone": "a", "empty": ""}),
    target(tolerations=[{"operator": "Exists"}, {"key": "a"}, {"key": "b", "value": "c", "effect": "NoExecute"}]),
    target(tolerations=[{"key": "a", "operator": "Exists", "value": ""}]),
    extra(path="models/v1..2/.hidden/...x"),
    extra(path="/var/lib/pantala/files/a"),
    extra(path="mit Leerzeichen/ü" + "ü" * 200),
    extra(retry={}),
    extra(retry={"limit": 0}),
    extra(activeDeadlineSeconds=1, ttlSecondsAfterFinished=0, priority=-1000, suspend=True),
]


@pytest.mark.parametrize(("spec", "expected"), REFUSED, ids=lambda value: str(value)[:70])
def test_refuses_with_the_field_named(api: API, spec: Object, expected: str) -> None:
    api.assert_refused(spec, expected)


@pytest.mark.parametrize("spec", ACCEPTED, ids=lambda value: str(value)[:70])
def test_accepts(api: API, spec: Object) -> None:
    status, body = api.create(spec)
    assert 201 == status, body["message"]


def test_a_misspelt_field_is_refused(api: API) -> None:
    status, body = api.create(extra(digset=SHA256))
    assert 400 == status
    assert 'unknown field "spec.digset"' in body["message"]


def test_defaults_are_filled_in(api: API) -> None:
    _, body = api.create(extra(target={"tolerations": [{"key": "a"}]}))
    expected = {
        "source": {"url": URL},
        "depth": "Peer",
        "priority": 0,
        "suspend": False,
        "target": {"tolerations": [{"key": "a", "operator": "Equal"}]},
    }
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


def _condition(kind: str, status: str, **values: object) -> Object:
    return {"type": kind, "status": status, "reason": "Why", "message": "", "lastTransitionTime": NOW, **values}


STATUS = {
    "observedGeneration": 1,
    "conditions": [
        _condition(kind, "True", observedGeneration=1)
        for kind in ("Ready", "SourceResolved", "Cached", "Distributed", "Reconciling", "Stalled")
    ],
    "taskID": "c" * 64,
    "cdnStatus": "SUCCESS",
    "path": "default/columns",
    "contentLength": 2**33,
    "size": "8Gi",
    "digest": SHA256,
    "pieceSize": 4194304,
    "pieces": {"total": 2048, "cached": 2048},
    "peers": {"desired": 3, "ready": 2, "active": 1, "failed": 1},
    "summary": "2/3",
    "bytes": {"origin": 2**33, "fromSupernode": 2**34, "fromPeers": 0, "distributed": 2**34},
    "failures": [{"node": "node3", "reason": "NodeDiskFull", "message": "full"}],
    "startTime": NOW,
    "completionTime": NOW,
    "lastHandledRequest": "now",
}


def _words(line: str, first: int | None = None, last: int | None = None) -> str:
    return " ".join(line.split()[first:last])


def test_the_whole_status_can_be_applied_and_is_shown_in_columns(api: API) -> None:
    path = _store(api, "columns", extra())
    body = {"apiVersion": API_VERSION, "kind": "Task", "metadata": {"name": "columns"}, "status": STATUS}
    status, answer = api.call("PATCH", f"{path}/status?fieldManager=test&force=true", body, "apply-patch+yaml")
    assert 200 == status, answer["message"]
    assert STATUS == answer["status"]
    header, row = api.kubectl("get", "pt", "columns").splitlines()
    expected = "NAME READY REASON PEERS SIZE AGE", "columns True Why 2/3 8Gi"
    assert expected == (_words(header), _words(row, 0, 5))
    header, row = api.kubectl("get", "task", "columns", "-o", "wide").splitlines()
    expected = "AGE ORIGIN BYTES PATH", f"{2**33} default/columns"
    assert expected == (_words(header, -4), _words(row, -2))
    api.kubectl("wait", "--for=condition=Ready", "task/columns", "--timeout=5s")


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"conditions": [_condition("Ready", "True"), _condition("Ready", "False")]}, "status.conditions[1]"),
        ({"conditions": [_condition("Ready", "Maybe")]}, "status.conditions[0].status"),
        ({"conditions": [_condition("Ready", "True", reason="")]}, "status.conditions[0].reason"),
        ({"conditions": [_condition("Ready", "True", reason="not one word")]}, "status.conditions[0].reason"),
        ({"conditions": [_condition("Ready", "True", lastTransitionTime="today")]}, "lastTransitionTime"),
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
    peer = {"apiVersion": API_VERSION, "kind": "Peer", "metadata": {"name": "node1"}}
    status, body = api.call("POST", f"{PEERS}?fieldValidation=Strict", peer)
    expected: object = (201, {"unschedulable": False})
    assert expected == (status, body.get("spec"))
    seen = {
        "observedGeneration": 1,
        "conditions": [_condition("Ready", "True", observedGeneration=1)],
        "address": "10.0.0.1:65002",
        "zone": "a",
        "version": "0.1.0",
        "cache": {"bytes": 2**40, "tasks": 3},
        "uploads": 1,
        "succeeded": 2**40,
        "failed": 1,
    }
    status, body = api.call(
        "PATCH", f"{PEERS}/node1/status?fieldManager=test", {**peer, "status": seen}, "apply-patch+yaml"
    )
    assert (200, seen) == (status, body.get("status"))
    header, row = api.kubectl("get", "pp").splitlines()
    expected = "NAME READY ADDRESS ZONE CACHE AGE", f"node1 True 10.0.0.1:65002 a {2**40}"
    assert expected == (_words(header), _words(row, 0, 5))


def test_both_kinds_are_in_the_category(api: API, bare: str) -> None:
    assert "task.pantala.dev/bare" in api.kubectl("get", "pantala", "-o", "name")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("spec.depth=Supernode", ["shallow"]), ("spec.source.url=http://origin.example/shallow", ["shallow"])],
)
def test_tasks_are_selected_by_field(api: API, bare: str, selector: str, expected: list[str]) -> None:
    spec = {"source": {"url": "http://origin.example/shallow"}, "depth": "Supernode"}
    api.call("POST", TASKS, task("shallow", spec))
    names = api.kubectl("get", "pt", "--field-selector", selector, "-o", "jsonpath={.items[*].metadata.name}")
    assert expected == names.split()


@pytest.mark.parametrize("sample", sorted((ROOT / "crds" / "samples").glob("*.yaml")), ids=lambda path: path.name)
@pytest.mark.parametrize("mode", ["--server-side", "--validate=strict"])
def test_samples_apply_as_they_are(api: API, sample: Path, mode: str) -> None:
    applied = api.kubectl("apply", "--dry-run=server", mode, "-f", str(sample))
    assert applied.count("\n") == len(list(yaml.safe_load_all(sample.read_text())))


def test_every_field_is_described() -> None:
    for crd in (ROOT / "crds").glob("*.yaml"):
        for version in yaml.safe_load(crd.read_text())["spec"]["versions"]:
            assert list(_undescribed("", version["schema"]["openAPIV3Schema"])) == []


def _undescribed(path: str, node: Object) -> Iterator[str]:
    if "description" not in node and path != ".metadata":
        yield path
    for name, field in node.get("properties", {}).items():
        yield from _undescribed(f"{path}.{name}", field)
    for inner in ("items", "additionalProperties"):
        if inner in node:
            yield from _undescribed(f"{path}[]", node[inner])
