"""A pod uses a Task's file, as docs/howto/pod-files.md and crds/samples/pod-file.yaml say."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.cluster.command import CommandError
from testbed.origin import Generated, Origin, sha256
from tests.e2e.case import MIB, Case, passes
from tests.support.eventually import eventually_blocking

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = (ROOT / "crds" / "samples" / "pod-file.yaml").read_text()
PAGE = (ROOT / "docs" / "howto" / "pod-files.md").read_text()
_POOL = "pool=inference"
_PODS = "--selector=app=model-server"


def test_pods_of_a_pool_read_the_file(case: Case, origin: Origin) -> None:
    """The pods wait for the file, read it and cannot change it. Pod Security and the policy of the page limit them."""
    body = Generated(16 * MIB, seed=41)
    origin.serve("/model", body)
    origin.rate = 4 * MIB
    pool = case.nodes[:2]
    task, deployment = _sample(case, origin.url("/model"))
    policy = _policy(case)
    try:
        for node in pool:
            case.kubectl("label", "node", node, _POOL)
        case.apply(*policy)
        case.kubectl("label", "namespace", case.namespace, f"pantala.dev/files={case.namespace}")
        case.apply(deployment)
        eventually_blocking(lambda: _pods(case), within=20, what="the pods exist")
        assert [] == [pod for pod in _pods(case) if _ready(pod)]
        case.apply(task)

        case.kubectl("rollout", "status", "deployment/model-server", f"--namespace={case.namespace}", "--timeout=90s")

        assert "True" == case.condition("task/shared-model", "Ready")["status"]
        assert set(pool) >= {pod["spec"]["nodeName"] for pod in _pods(case)}
        case.assert_published(f"{case.namespace}/model.bin", body, pool)
        passes(lambda: _assert_read(case, sha256(body)), within=20)
        _assert_read_only(case)
        _assert_limited(case, deployment)
    finally:
        case.kubectl(
            "delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", case.namespace, check=False
        )
        for node in pool:
            case.kubectl("label", "node", node, f"{_POOL.partition('=')[0]}-")


def _sample(case: Case, url: str) -> list[dict[str, Any]]:
    """The sample for this case: its namespace, an origin of the test, and an image that the cluster has."""
    supernode = case.kubectl.list("pods", "", "app.kubernetes.io/component=supernode")[0]
    image = supernode["spec"]["containers"][0]["image"]
    text = SAMPLE.replace("namespace: default", f"namespace: {case.namespace}")
    text = text.replace("default/model.bin", f"{case.namespace}/model.bin")
    text = text.replace("/var/lib/pantala/files/default", f"/var/lib/pantala/files/{case.namespace}")
    text = re.sub(r"(?<=image: )\S+", image, re.sub(r"(?<=url: )\S+", url, text))
    return list(yaml.safe_load_all(text))


def _policy(case: Case) -> list[dict[str, Any]]:
    """The policy and the binding of the page, for this case's namespace only."""
    [block] = [
        block
        for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        if "AdmissionPolicy" in block
    ]
    text = block.replace("only-own-pantala-files", case.namespace)
    return list(yaml.safe_load_all(text.replace("pantala.dev/files: own", f"pantala.dev/files: {case.namespace}")))


def _pods(case: Case) -> list[dict[str, Any]]:
    return case.kubectl.list("pods", case.namespace, _PODS.partition("=")[2])


def _ready(pod: dict[str, Any]) -> bool:
    return any(("Ready", "True") == (each["type"], each["status"]) for each in pod["status"].get("conditions", []))


def _assert_read(case: Case, digest: str) -> None:
    logs = case.kubectl("logs", _PODS, f"--namespace={case.namespace}", "--container=server")
    assert [digest] * 2 == [line.split()[0] for line in logs.splitlines()]


def _assert_read_only(case: Case) -> None:
    pod = _pods(case)[0]["metadata"]["name"]
    for command in ("echo x > /models/model.bin", "touch /models/other", "rm -f /models/model.bin"):
        with pytest.raises(CommandError, match=r"Read-only file system"):
            case.kubectl("exec", f"--namespace={case.namespace}", pod, "--container=server", "--", "sh", "-c", command)


def _assert_limited(case: Case, deployment: dict[str, Any]) -> None:
    """The API server refuses a folder of another namespace, a writable mount, and hostPath below ``privileged``."""
    case.kubectl("delete", "deployment/model-server", f"--namespace={case.namespace}", "--wait=false")
    for old, new, error in (
        (f"files/{case.namespace}", "files/other", "only the Pantala folder of its own namespace"),
        ("'readOnly': True", "'readOnly': False", "must be read-only"),
    ):
        passes(lambda old=old, new=new, error=error: _assert_refused(case, deployment, old, new, error), within=20)  # type: ignore[misc]
    case.kubectl("label", "namespace", case.namespace, "pod-security.kubernetes.io/enforce=baseline")
    passes(lambda: _assert_refused(case, deployment, "", "", "violates PodSecurity"), within=10)


def _assert_refused(case: Case, deployment: dict[str, Any], old: str, new: str, error: str) -> None:
    spec = yaml.safe_load(str(deployment["spec"]["template"]["spec"]).replace(old, new))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other", "namespace": case.namespace}, "spec": spec}
    with pytest.raises(CommandError, match=error):
        case.kubectl("create", "--dry-run=server", "--filename=-", text=yaml.safe_dump(pod))
