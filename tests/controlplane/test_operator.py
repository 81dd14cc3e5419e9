"""The operator as a process, with a real API server and a fake supernode."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from pantala_protocol.statement import CDNStatus, Failure
from testbed.apiserver import ControlPlane
from tests.controlplane.conftest import ROOT
from tests.support.eventually import eventually
from tests.support.operator_process import NODES, Kubectl, OperatorProcess, ServedSupernode

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]


async def test_a_task_is_stated_reported_and_ready(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """From apply to ``kubectl wait``, with all that a user sees in between."""
    await kubectl.task("file")
    wanted = await supernode.wanting("default/file", lambda task: task.peers)
    assert (wanted.url, wanted.path, wanted.peers) == ("http://origin.example/file", "default/file", NODES)
    await supernode.deliver("default/file", ready_peers=("node-a",), active_peers=("node-b",))
    await kubectl.wait("condition=Cached", "task/file")
    assert (await kubectl.conditions("file"))["Ready"] == ("False", "Progressing")
    await supernode.deliver("default/file")
    await kubectl.wait("condition=Ready", "task/file")
    status = (await kubectl.get("task", "file"))["status"]
    assert (status["summary"], status["size"], status["bytes"]["origin"]) == ("3/3", "1Mi", 1 << 20)
    assert status["peers"] == {"desired": 3, "ready": 3, "active": 0, "failed": 0}
    events = await kubectl("get", "events", "--field-selector=involvedObject.name=file", "-o", "jsonpath={..reason}")
    assert "Distributed" == events


async def test_waiting_works_after_an_edit(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """A condition of the former generation does not satisfy ``kubectl wait``."""
    await kubectl.task("edited")
    await supernode.deliver("default/edited")
    await kubectl.wait("condition=Ready", "task/edited")
    await kubectl.task("edited", priority=7)
    wanted = await supernode.wanting("default/edited", lambda task: task.priority == 7)
    with pytest.raises(subprocess.CalledProcessError):
        await kubectl.wait("condition=Ready", "task/edited", timeout="1s")
    await supernode.deliver("default/edited", attempt=wanted.attempt)
    await kubectl.wait("condition=Ready", "task/edited")
    body = await kubectl.get("task", "edited")
    stamps = {each["observedGeneration"] for each in body["status"]["conditions"]}
    assert {body["metadata"]["generation"]} == stamps | {body["status"]["observedGeneration"]} == {2}


async def test_a_deleted_task_is_no_longer_wanted(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """Nothing delays the deletion, and the other Task stays."""
    await kubectl.task("kept")
    await kubectl.task("dropped")
    await supernode.wanting("default/kept")
    await supernode.wanting("default/dropped")
    await kubectl("delete", "task", "dropped", "--timeout=5s")
    await eventually(lambda: set(supernode.wanted) == {"default/kept"})


async def test_changes_while_the_operator_is_down_are_found(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """Deletions and creations. The operator stops fast, and its revisions keep growing."""
    await kubectl.task("old")
    await kubectl.task("done")
    await supernode.deliver("default/done")
    await kubectl.wait("condition=Ready", "task/done")
    written = (await kubectl.get("task", "done"))["metadata"]["resourceVersion"]
    assert await asyncio.to_thread(operator.stop) < 5
    assert 0 == operator.returncode
    revision = supernode.statements[-1].revision
    await kubectl("delete", "task", "old", "--timeout=5s")
    await kubectl.task("new")
    operator.start()
    await eventually(lambda: set(supernode.wanted) == {"default/done", "default/new"})
    later = [each for each in supernode.statements if each.revision > revision]
    assert [{"default/done", "default/new"}] == [{task.name for task in each.tasks} for each in later]
    assert written == (await kubectl.get("task", "done"))["metadata"]["resourceVersion"]


async def test_the_operator_survives_an_outage_of_the_api_server(
    control_plane: ControlPlane, kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """The statement stays as it is. Reports that came meanwhile are written afterwards."""
    await kubectl.task("through")
    await supernode.wanting("default/through")
    control_plane.stop_apiserver()
    try:
        await supernode.restart()
        await supernode.connect(*NODES)
        await supernode.deliver("default/through")
        await eventually(lambda: "The API server rejected a write" in operator.log)
        assert {"default/through"} == set(supernode.wanted)
        assert (200, []) == operator.ask("/healthz")
    finally:
        control_plane.start_apiserver()  # not in another thread, which would end it with itself
    await kubectl.wait("condition=Ready", "task/through", timeout="30s")
    await kubectl.task("after")
    await supernode.wanting("default/after")
    assert operator.returncode is None


async def test_an_unreachable_supernode_is_a_reason_until_it_is_back(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """Finished Tasks stay Ready. After its return the supernode gets the whole statement."""
    await kubectl.task("finished")
    await supernode.deliver("default/finished")
    await kubectl.wait("condition=Ready", "task/finished")
    await supernode.stop()
    await kubectl.task("waiting")
    path = "jsonpath={.status.conditions[?(@.type=='Reconciling')].reason}=SupernodeUnavailable"
    await kubectl.wait(path, "task/waiting")
    assert (await kubectl.conditions("finished"))["Ready"] == ("True", "Distributed")
    supernode.statements.clear()
    await supernode.restart()
    await supernode.connect(*NODES)
    await supernode.start()
    await supernode.deliver("default/finished")
    await supernode.deliver("default/waiting")
    await kubectl.wait("condition=Ready", "task/waiting", "task/finished")


async def test_a_finished_task_is_deleted_after_its_time(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """``ttlSecondsAfterFinished``, after success and after a final failure."""
    await kubectl.task("short", ttlSecondsAfterFinished=2)
    await kubectl.task("wrong", ttlSecondsAfterFinished=2)
    await supernode.deliver("default/short")
    failure = Failure("DigestMismatch", "the file's digest is sha256:b…", final=True)
    await supernode.deliver("default/wrong", cdn_status=CDNStatus.FAILED, failure=failure, ready_peers=())
    await kubectl.wait("condition=Stalled", "task/wrong")
    await kubectl.wait("delete", "task/short", "task/wrong")
    await eventually(lambda: not supernode.wanted)


async def test_a_suspended_task_keeps_its_files(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """A finished Task stays Ready, an unfinished Task is Suspended. Both stay in the statement."""
    await kubectl.task("whole")
    await kubectl.task("half")
    await supernode.deliver("default/whole")
    await kubectl.wait("condition=Ready", "task/whole")
    for name in ("whole", "half"):
        await kubectl.task(name, suspend=True)
        await supernode.wanting(f"default/{name}", lambda task: task.suspended)
    await supernode.deliver("default/whole")
    await supernode.deliver("default/half", cdn_status=CDNStatus.RUNNING, pieces_cached=4, ready_peers=())
    await kubectl.wait("jsonpath={.status.conditions[?(@.type=='Ready')].reason}=Suspended", "task/half")
    await kubectl.wait("condition=Ready", "task/whole")
    half = await kubectl.conditions("half")
    assert [half[each] for each in ("Ready", "Reconciling", "Stalled")] == [("False", "Suspended")] * 3
    await kubectl.task("half", suspend=False)
    await supernode.wanting("default/half", lambda task: not task.suspended)
    await supernode.deliver("default/half")
    await kubectl.wait("condition=Ready", "task/half")


async def test_headers_come_from_a_secret(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """A missing Secret is a reason. Once it exists, its keys are sent and shown nowhere."""
    await kubectl.task("private", headersFrom={"secretRef": {"name": "origin"}})
    await kubectl.wait("condition=Stalled", "task/private")
    conditions = await kubectl.conditions("private")
    assert ("True", "SecretMissing") == conditions["Stalled"]
    assert {} == supernode.wanted
    await kubectl("create", "secret", "generic", "origin", "--from-literal=Authorization=Bearer s3cret")
    wanted = await supernode.wanting("default/private")
    assert {"Authorization": "Bearer s3cret"} == wanted.headers
    await kubectl("delete", "secret", "origin")
    assert "s3cret" not in json.dumps(await kubectl.get("task", "private")) + operator.log


async def test_a_missing_permission_is_logged_until_it_is_granted(
    control_plane: ControlPlane, kubectl: Kubectl, supernode: ServedSupernode, tmp_path: Path
) -> None:
    """The operator keeps running without ``tasks/status``, and writes as soon as it may."""
    await kubectl("create", "serviceaccount", "narrow", "-n", "default")
    rules = [
        {"apiGroups": ["pantala.dev"], "resources": ["tasks", "peers", "imageprefetches"], "verbs": ["*"]},
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


async def test_a_missing_crd_is_a_problem_until_it_is_installed(
    kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess
) -> None:
    """Readiness names the CRD. After its installation Tasks work without a restart of the operator."""
    await kubectl("delete", "crd", "tasks.pantala.dev", "--timeout=20s")
    missing = (503, ["CRD tasks.pantala.dev is not served; install crds/"])
    await eventually(lambda: operator.ask("/readyz") == missing, within=40)
    assert (200, []) == operator.ask("/healthz")
    await kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    await kubectl("wait", "--for=condition=Established", "--all", "crd")
    await operator.ready(within=40)
    await kubectl.task("late")
    await supernode.deliver("default/late")
    await kubectl.wait("condition=Ready", "task/late", timeout="30s")


async def test_peers_follow_nodes(kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess) -> None:
    """Each connected peer on a Node has a Peer. A deleted Peer is created again."""
    await kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}}))
    await supernode.connect("x", "stranger")
    await kubectl.wait("create", *(f"peer/{name}" for name in (*NODES, "x")))
    await kubectl.wait("condition=Ready", *(f"peer/{name}" for name in (*NODES, "x")))
    await kubectl("delete", "peer", "node-a")
    await kubectl.wait("create", "peer/node-a")
    await kubectl("delete", "node", "x")
    await kubectl.wait("delete", "peer/x")
    names = {peer["metadata"]["name"] for peer in (await kubectl.get("peers"))["items"]}
    assert set(NODES) == names
