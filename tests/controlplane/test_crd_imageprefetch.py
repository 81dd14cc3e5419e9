"""The API server accepts valid ImagePrefetches, and refuses others with advice."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pantala_operator.resources.api import Taint
from pantala_operator.resources.prefetch import read_prefetch
from testbed.apiserver import ControlPlane
from tests.controlplane.test_crds import API
from tests.support.prefetch import World, cluster, node

pytestmark = pytest.mark.controlplane

Object = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
PREFETCHES = "/apis/pantala.dev/v1alpha1/namespaces/default/imageprefetches"
DIGEST = "sha256:" + "a" * 64
NOW = "2026-01-01T00:00:00Z"
UNREACHABLE = Taint("node.kubernetes.io/unreachable", "NoExecute")


def prefetch(name: str, spec: Object) -> Object:
    return {"apiVersion": "pantala.dev/v1alpha1", "kind": "ImagePrefetch", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> API:
    return API(control_plane)


def create(api: API, spec: Object) -> tuple[int, Object]:
    return api.create(spec, "ImagePrefetch")


def images(*references: str, **more: object) -> Object:
    return {"images": [{"image": reference} for reference in references], **more}


def some(**more: object) -> Object:
    return images("registry.example/a:1", **more)


CONTINUOUS = {"completionPolicy": "Continuous"}
NIGHTLY = {"cron": "30 2 * * *"}
REFERENCE = "spec.images[0].image: Invalid value: must be an image reference such as"
SHARE = "Invalid value: must be a number of at least 1, or 1% to 100%"
NOT_CHOSEN = "spec.startupTaint: Forbidden: startupTaint cannot be combined with target.count"

REFUSED = [
    ({}, "spec: Invalid value: set images, from, or both"),
    ({"images": []}, "spec.images: Invalid value"),
    (images("a", "a"), "spec.images[1]: Duplicate value"),
    (images(*(f"a:{number}" for number in range(65))), "spec.images: Too many"),
    (images(""), "spec.images[0].image: Invalid value"),
    (images("a b"), REFERENCE),
    (images("https://registry.example/a"), REFERENCE),
    (images("registry.example/A:1"), REFERENCE),
    (images("a:"), REFERENCE),
    (images("a@sha256:abc"), REFERENCE),
    (images("a@" + DIGEST + "\n"), REFERENCE),
    (images("a//b"), REFERENCE),
    (images("a:" + "b" * 129), REFERENCE),
    ({"images": [{"image": "a", "platform": "amd64"}]}, "spec.images[0].platform: Invalid value: must be os/arch"),
    ({"from": {}}, "spec.from: Invalid value: set exactly one of workloadRef and namespaceSelector"),
    (
        {"from": {"workloadRef": {"kind": "Deployment", "name": "a"}, "namespaceSelector": {}}},
        "spec.from: Invalid value: set exactly one of workloadRef and namespaceSelector",
    ),
    ({"from": {"workloadRef": {"kind": "Pod", "name": "a"}}}, "spec.from.workloadRef.kind: Unsupported value"),
    ({"from": {"workloadRef": {"kind": "Deployment"}}}, "spec.from.workloadRef.name: Required value"),
    (
        {"from": {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
        "spec.from.namespaceSelector.matchExpressions[0]: Invalid value: values must be set for In and NotIn",
    ),
    (some(pullSecrets=["a", "a"]), "spec.pullSecrets[1]: Duplicate value"),
    (some(pullSecrets=[""]), "spec.pullSecrets[0]: Invalid value"),
    (some(target={"count": 1, "percentage": 1}), "spec.target: Invalid value: set at most one of count and"),
    (
        some(target={"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
        "spec.target.podSelector.matchExpressions[0]: Invalid value: values must be set for In and NotIn",
    ),
    (some(rollout={"parallelism": 0}), f"spec.rollout.parallelism: {SHARE}; to pause, set spec.suspend"),
    (some(rollout={"parallelism": "0%"}), f"spec.rollout.parallelism: {SHARE}"),
    (some(rollout={"parallelism": "101%"}), f"spec.rollout.parallelism: {SHARE}"),
    (some(rollout={"parallelism": "2"}), f"spec.rollout.parallelism: {SHARE}"),
    (some(rollout={"parallelism": "1%\n"}), f"spec.rollout.parallelism: {SHARE}"),
    (some(rollout={"maxFailures": -1}), "spec.rollout.maxFailures: Invalid value: must be a number of at least 0"),
    (some(rollout={"perNode": 0}), "spec.rollout.perNode: Invalid value"),
    (some(rollout={"waves": [{}]}), "spec.rollout.waves[0]: Invalid value: set nodeSelector, nodes, or both"),
    (some(rollout={"waves": [{"nodes": 0}]}), f"spec.rollout.waves[0].nodes: {SHARE}"),
    (some(retry={"limit": -1}), "spec.retry.limit: Invalid value"),
    (some(retry={"backoffSeconds": 0}), "spec.retry.backoffSeconds: Invalid value"),
    (some(timeoutSecondsPerNode=9), "spec.timeoutSecondsPerNode: Invalid value"),
    (some(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds: Invalid value"),
    (
        some(ttlSecondsAfterFinished=1, **CONTINUOUS),
        "spec.ttlSecondsAfterFinished: Forbidden: ttlSecondsAfterFinished needs completionPolicy Once",
    ),
    (
        some(ttlSecondsAfterFinished=1, schedule=NIGHTLY),
        "spec.ttlSecondsAfterFinished: Forbidden: ttlSecondsAfterFinished would delete it before the next run",
    ),
    (some(schedule={}), "spec.schedule.cron: Required value"),
    (some(schedule={"cron": "30 2 * *"}), "spec.schedule.cron: Invalid value"),
    (some(schedule={"cron": "0 30 2 * * *"}), "spec.schedule.cron: Invalid value: must have five fields"),
    (some(schedule={"cron": "@every 10s"}), "spec.schedule.cron: Invalid value: must have five fields"),
    (some(schedule={**NIGHTLY, "timeZone": "../etc"}), "spec.schedule.timeZone: Invalid value: must be a name of"),
    (some(startupTaint={"key": "a"}), "spec.startupTaint: Forbidden: startupTaint needs completionPolicy Continuous"),
    (some(startupTaint={"key": "a"}, target={"count": 1}, **CONTINUOUS), NOT_CHOSEN),
    (some(startupTaint={"key": "a"}, target={"percentage": 1}, **CONTINUOUS), NOT_CHOSEN),
    (some(startupTaint={"key": "a"}, target={"podSelector": {}}, **CONTINUOUS), NOT_CHOSEN),
    (
        some(startupTaint={"key": "node.kubernetes.io/not-ready"}, **CONTINUOUS),
        "spec.startupTaint.key: Invalid value: must be a key of your own",
    ),
    (some(retention={"byteBudget": "much"}), "spec.retention.byteBudget: Invalid value: must be a whole number"),
    (some(retention={"byteBudget": "0"}), "spec.retention.byteBudget: Invalid value: must be a whole number"),
    (some(completionPolicy="Always"), "spec.completionPolicy: Unsupported value"),
    (some(updatePolicy="Never"), "spec.updatePolicy: Unsupported value"),
    (some(mode="Dry"), "spec.mode: Unsupported value"),
]

ACCEPTED = [
    images("a"),
    images("nginx:1.27", "docker.io/library/nginx@" + DIGEST, "localhost:5000/a/b_c/d--e.f:V1_2-3.4@" + DIGEST),
    images("[2001:db8::1]:5000/a", "REGISTRY.example/a:latest"),
    {"images": [{"image": "a", "platform": "linux/arm/v7"}]},
    {"from": {"workloadRef": {"kind": "StatefulSet", "name": "a"}}},
    {"from": {"namespaceSelector": {}}},
    images("a", **{"from": {"namespaceSelector": {"matchLabels": {"team": "a"}}}}),
    some(rollout={"parallelism": 3, "perNode": 2, "maxFailures": 0, "waves": [{"nodes": 1}, {"nodes": "10%"}]}),
    some(rollout={"parallelism": "25%", "maxFailures": "0%", "waves": [{"nodeSelector": {"canary": "yes"}}]}),
    some(retry={"limit": 0, "backoffSeconds": 1}, timeoutSecondsPerNode=10, activeDeadlineSeconds=1),
    some(ttlSecondsAfterFinished=0, completionPolicy="Once"),
    some(schedule={"cron": "*/15 8-18 * JAN-MAR mon-fri", "timeZone": "America/Argentina/Buenos_Aires"}),
    some(startupTaint={"key": "example.com/images", "deadlineSeconds": 60}, target={"nodeSelector": {}}, **CONTINUOUS),
    some(retention={"pin": True, "byteBudget": "20Gi"}, updatePolicy="Follow", mode="Plan", suspend=True),
    some(target={"names": ["node1"], "podSelector": {"matchLabels": {"app": "a"}}, "percentage": 100}),
    some(target={"tolerations": [{"operator": "Exists"}], "count": 1}, pullSecrets=["a", "b"]),
]


@pytest.mark.parametrize(("spec", "expected"), REFUSED, ids=lambda value: str(value)[:70])
def test_refuses_with_the_field_named(api: API, spec: Object, expected: str) -> None:
    api.assert_refused(spec, expected, "ImagePrefetch")


@pytest.mark.parametrize("spec", ACCEPTED, ids=lambda value: str(value)[:70])
def test_accepts(api: API, spec: Object) -> None:
    status, body = create(api, spec)
    assert 201 == status, body["message"]


def test_a_misspelt_field_is_refused(api: API) -> None:
    status, body = create(api, some(paralelism=1))
    assert 400 == status
    assert 'unknown field "spec.paralelism"' in body["message"]


def test_defaults_are_filled_in(api: API) -> None:
    _, body = create(api, some(rollout={}, retry={}, schedule=NIGHTLY, retention={}))
    expected = some(
        rollout={"perNode": 1},
        retry={"backoffSeconds": 10},
        schedule={**NIGHTLY, "timeZone": "Etc/UTC"},
        retention={"pin": False},
        timeoutSecondsPerNode=600,
        completionPolicy="Once",
        updatePolicy="Pin",
        mode="Run",
        suspend=False,
    )
    assert expected == body["spec"]


def _condition(kind: str, status: str, **values: object) -> Object:
    return {"type": kind, "status": status, "reason": "Why", "message": "", "lastTransitionTime": NOW, **values}


STATUS = {
    "observedGeneration": 1,
    "conditions": [
        _condition(kind, "True", observedGeneration=1)
        for kind in ("Ready", "Resolved", "Reconciling", "Stalled", "Drifted", "EvictedByKubelet")
    ],
    "images": [
        {
            "image": "registry.example/a:1",
            "platform": "linux/amd64",
            "digest": DIGEST,
            "latestDigest": DIGEST,
            "resolvedTime": NOW,
            "task": "columns-0123456789",
            "bytes": 2**33,
            "desired": 3,
            "active": 1,
            "ready": 2,
            "failed": 0,
        }
    ],
    "nodes": {"desired": 3, "ready": 2, "active": 1, "failed": 0, "waiting": 0, "unavailable": 1},
    "summary": "2/3",
    "size": "8Gi",
    "bytes": {"total": 2**33, "fetched": 2**34, "perSecond": 2**27},
    "failures": [
        {"node": "node3", "image": "registry.example/a:1", "reason": "NoSpace", "message": "full"},
        {"image": "registry.example/b:1", "reason": "NotFound", "message": "No node pulls it"},
    ],
    "plan": {
        "bytes": 2**34,
        "registryBytes": 2**33,
        "nodes": [{"node": "node1", "images": 1, "bytes": 2**33, "diskFree": 1, "diskFreeAfter": -(2**33)}],
        "leftOut": [{"node": "node9", "image": "a", "reason": "PlatformMissing", "message": "why"}],
        "nodesTotal": 1,
        "leftOutTotal": 1,
    },
    "startTime": NOW,
    "completionTime": NOW,
    "lastScheduleTime": NOW,
    "nextScheduleTime": NOW,
    "lastHandledRequest": "now",
}


def test_the_whole_status_can_be_applied_and_is_shown_in_columns(api: API) -> None:
    assert api.call("POST", PREFETCHES, prefetch("columns", some()))[0] == 201
    body = {**prefetch("columns", {}), "status": STATUS}
    del body["spec"]
    path = f"{PREFETCHES}/columns/status?fieldManager=test&force=true&fieldValidation=Strict"
    status, answer = api.call("PATCH", path, body, "apply-patch+yaml")
    assert 200 == status, answer["message"]
    assert STATUS == answer["status"]
    header, row = api.kubectl("get", "imgp", "columns").splitlines()
    assert ["NAME", "READY", "REASON", "NODES", "SIZE", "AGE"] == header.split()
    assert ["columns", "True", "Why", "2/3", "8Gi"] == row.split()[:5]
    header, row = api.kubectl("get", "imageprefetch", "columns", "-o", "wide").splitlines()
    assert ["FAILED", "BYTES/S", "NEXT", "RUN"] == header.split()[6:]
    assert ["0", str(2**27)] == row.split()[6:8]
    api.kubectl("wait", "--for=condition=Ready", "imgp/columns", "--timeout=5s")
    assert "imageprefetch.pantala.dev/columns" in api.kubectl("get", "pantala", "-o", "name")


def test_the_results_of_a_plan_are_accepted_unchanged(api: API) -> None:
    """Neither in its Tasks nor in its status is a field refused, dropped or changed."""
    assert (
        api.call("POST", PREFETCHES, prefetch("planned", images("one:1", "two:2", retention={"pin": True})))[0] == 201
    )
    stored = api.call("GET", f"{PREFETCHES}/planned")[1]
    world = World(read_prefetch(stored), cluster(node("a"), node("b", UNREACHABLE)))
    tasks = world.turn(2).tasks.apply
    made = world.settle()
    assert 2 == len(tasks)
    for body in tasks:
        path = f"/apis/pantala.dev/v1alpha1/namespaces/default/tasks/{body['metadata']['name']}"
        query = "fieldManager=pantala-operator&force=true&fieldValidation=Strict"
        status, answer = api.call("PATCH", f"{path}?{query}", dict(body), "apply-patch+yaml")
        assert 201 == status, answer["message"]
        assert answer["spec"].items() >= body["spec"].items()
    said = msgspec.json.decode(msgspec.json.encode(made.status))
    patch = {**{key: stored[key] for key in ("apiVersion", "kind")}, "metadata": {"name": "planned"}, "status": said}
    path = f"{PREFETCHES}/planned/status?fieldManager=pantala-operator&force=true&fieldValidation=Strict"
    status, answer = api.call("PATCH", path, patch, "apply-patch+yaml")
    assert (200, said) == (status, answer.get("status")), answer
    assert read_prefetch(answer).status == made.status
