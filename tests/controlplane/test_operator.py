"""The operator as a process, with a real API server and a fake supernode."""

import subprocess
from pathlib import Path

import pytest
import yaml

from testbed.apiserver import ControlPlane
from tests.controlplane.conftest import ROOT
from tests.support.eventually import eventually
from tests.support.operator_process import NODES, Kubectl, OperatorProcess, ProcessStage, ServedSupernode

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]


async def test_a_task_is_stated_reported_and_ready(stage: ProcessStage) -> None:
    """From apply to ``kubectl wait``, with all that a user sees in between."""
    await stage.kubectl.task("file")
    wanted = await stage.supernode.wanting("default/file", lambda task: task.peers)
    assert (wanted.url, wanted.path, wanted.peers) == ("http://origin.example/file", "default/file", NODES)
    await stage.supernode.deliver("default/file", ready_peers=("node-a",), active_peers=("node-b",))
    await stage.kubectl.wait("condition=Cached", "task/file")
    assert (await stage.kubectl.conditions("file"))["Ready"] == ("False", "Progressing")
    await stage.finish("file")
    status = (await stage.kubectl.get("task", "file"))["status"]
    assert (status["summary"], status["size"], status["bytes"]["originSize"]) == ("3/3", "1Mi", "1Mi")
    assert status["peers"] == {"desired": 3, "ready": 3, "active": 0, "failed": 0, "waiting": 0, "late": 0}
    events = await stage.kubectl(
        "get", "events", "--field-selector=involvedObject.name=file", "-o", "jsonpath={..reason}"
    )
    assert "Distributed" == events


async def test_waiting_works_after_an_edit(stage: ProcessStage) -> None:
    """A condition of the former generation does not satisfy ``kubectl wait``."""
    await stage.kubectl.task("edited")
    await stage.finish("edited")
    await stage.kubectl.task("edited", priority=7)
    wanted = await stage.supernode.wanting("default/edited", lambda task: task.priority == 7)
    with pytest.raises(subprocess.CalledProcessError):
        await stage.kubectl.wait("condition=Ready", "task/edited", timeout="1s")
    await stage.supernode.deliver("default/edited", attempt=wanted.attempt)
    await stage.kubectl.wait("condition=Ready", "task/edited")
    body = await stage.kubectl.get("task", "edited")
    stamps = {each["observedGeneration"] for each in body["status"]["conditions"]}
    assert {body["metadata"]["generation"]} == stamps | {body["status"]["observedGeneration"]} == {2}


async def test_a_missing_permission_is_logged_until_it_is_granted(
    control_plane: ControlPlane, kubectl: Kubectl, supernode: ServedSupernode, tmp_path: Path
) -> None:
    """The operator keeps running without ``tasks/status``, and writes as soon as it may."""
    await kubectl("create", "serviceaccount", "narrow", "-n", "default")
    rules = [
        {
            "apiGroups": ["pantala.dev"],
            "resources": ["tasks", "peers", "imageprefetches", "sourcepolicies"],
            "verbs": ["*"],
        },
        {"apiGroups": ["pantala.dev"], "resources": ["peers/status"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "narrow"}}
    await kubectl.apply({**role, "rules": rules})
    await kubectl("create", "clusterrolebinding", "narrow", "--clusterrole=narrow", "--serviceaccount=default:narrow")
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": (await kubectl("create", "token", "narrow")).strip()}
    (tmp_path / "narrow.kubeconfig").write_text(yaml.safe_dump(config))
    operator = OperatorProcess(control_plane, supernode, tmp_path)
    async with operator.running("--kubeconfig", str(tmp_path / "narrow.kubeconfig")):
        await kubectl.task("refused")
        await supernode.deliver("default/refused")
        await eventually(lambda: 'cannot patch resource \\"tasks/status\\"' in operator.log)
        rules.append({"apiGroups": ["pantala.dev"], "resources": ["tasks/status"], "verbs": ["patch"]})
        await kubectl.apply({**role, "rules": rules})
        await kubectl.wait("condition=Ready", "task/refused", timeout="30s")
        assert operator.returncode is None


async def test_a_missing_crd_is_a_problem_until_it_is_installed(stage: ProcessStage) -> None:
    """Readiness names the CRD. After its installation Tasks work without a restart of the operator."""
    await stage.kubectl("delete", "crd", "tasks.pantala.dev", "--timeout=20s")
    missing = (503, ["the API server does not serve the CRD tasks.pantala.dev. Apply crds/"])
    await eventually(lambda: stage.operator.ask("/readyz") == missing, within=40)
    assert (200, []) == stage.operator.ask("/healthz")
    await stage.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    await stage.kubectl("wait", "--for=condition=Established", "--all", "crd")
    await stage.operator.ready(within=40)
    await stage.kubectl.task("late")
    await stage.supernode.deliver("default/late")
    await stage.kubectl.wait("condition=Ready", "task/late", timeout="30s")
