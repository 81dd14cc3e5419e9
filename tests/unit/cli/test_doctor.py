"""The checks of ``kubectl pantala doctor``: each problem has a finding with the next step."""

import re
from typing import Any

import msgspec
import pytest

from pantala_cli.commands.doctor import examine, summary
from pantala_cli.doctor.diagnosis import Diagnosis, Level, picture
from pantala_cli.doctor.facts import Facts
from pantala_cli.doctor.platform import Distribution, recognise
from pantala_protocol import __version__
from tests.support.cli import Command, FakeAPIServer, rendered, swarm

LABELS = {"app.kubernetes.io/part-of": "pantala", "app.kubernetes.io/version": __version__}
LIMITS = {"podSelector": {}, "policyTypes": ["Egress"]}


def thing(kind: str, name: str, spec: Any = None, status: Any = None, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "pantala", "labels": labels}
    return {"kind": kind, "metadata": metadata, "spec": spec or {}, "status": status or {}}


def conditions(**statuses: str) -> dict[str, Any]:
    return {
        "conditions": [{"type": kind, "status": status, "message": f"{kind}!"} for kind, status in statuses.items()]
    }


def node(
    name: str, kubelet: str = "v1.34.1", image: str = "Debian", runtime: str = "containerd://2.1.4"
) -> dict[str, Any]:
    info = {"kubeletVersion": kubelet, "osImage": image, "containerRuntimeVersion": runtime}
    return thing("Node", name, status={"nodeInfo": info, **conditions(DiskPressure="False")})


def peer(name: str, **statuses: str) -> dict[str, Any]:
    known = {"Ready": "True", "MirrorConfigured": "True", "ClockSynchronized": "True", **statuses}
    return thing("Peer", name, status={**conditions(**known), "version": __version__})


def daemon_set(
    certs: str = "/etc/containerd/certs.d", socket: str = "/run/containerd", ready: int = 2, release: str = "pantala"
) -> dict[str, Any]:
    pod = {
        "initContainers": [{"name": "mirror", "command": ["sh", "-c", "x", f"--certs-d={certs}"]}],
        "containers": [{"name": "peer", "args": ["--root=/x"]}],
        "volumes": [{"name": "socket", "hostPath": {"path": socket}}],
    }
    status = {"numberReady": ready, "desiredNumberScheduled": 2}
    labels = LABELS | {"app.kubernetes.io/instance": release}
    return thing("DaemonSet", "pantala-peer", {"template": {"spec": pod}}, status, **labels)


def pod(component: str, status: Any = None, **spec: Any) -> dict[str, Any]:
    labels = LABELS | {"app.kubernetes.io/component": component}
    return thing("Pod", f"pantala-{component}-x", spec, status or {"phase": "Running"}, **labels)


def crd(plural: str) -> dict[str, Any]:
    return thing(
        "CustomResourceDefinition",
        f"{plural}.pantala.dev",
        {"names": {"plural": plural}},
        conditions(Established="True"),
    )


def facts(**changes: Any) -> Facts:
    console, _ = swarm()
    healthy: dict[str, Any] = {
        "version": "v1.34.1",
        "nodes": (node("a"), node("b")),
        "crds": tuple(map(crd, ("tasks", "imageprefetches", "peers", "sourcepolicies"))),
        "peers": (peer("a"), peer("b")),
        "pods": (pod("operator"), pod("peer", containers=[{"name": "peer", "ports": [{"hostPort": 65001}]}])),
        "workloads": (daemon_set(),),
        "namespace": {"metadata": {"name": "pantala"}},
        "console": console,
    }
    return Facts(**(healthy | changes))


def found(**changes: Any) -> list[Diagnosis]:
    return list(examine(facts(**changes)))


def test_a_healthy_installation_has_no_warning() -> None:
    findings = found()
    assert [] == [each for each in findings if each.level is not Level.OK]
    expected = {"distribution", "CRDs", "pods", "Pod Security", "versions", "policies", "ports", "runtime", "peers"}
    assert expected | {"mirror", "clocks", "disks", "volumes"} <= {each.check for each in findings}


_BACK_OFF = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
_WAITING = pod("peer", {"containerStatuses": [{"name": "peer", "state": _BACK_OFF}]})
_NO_PORT = {"type": "PodScheduled", "status": "False", "message": "didn't have free ports"}
_UNSCHEDULED = pod("peer", {"conditions": [_NO_PORT]})
_FULL = msgspec.structs.replace(swarm()[0].supernodes[0], volume_free=1 << 20)


@pytest.mark.parametrize(
    ("check", "level", "message", "changes"),
    [
        ("CRDs", "failed", "does not have the CRDs of imageprefetches, peers, tasks",
         {"crds": (crd("sourcepolicies"),)}),
        ("CRDs", "failed", "peers are not established",
         {"crds": (*facts().crds, thing("CRD", "peers", {"names": {"plural": "peers"}}))}),
        ("installation", "failed", "No pod of Pantala runs", {"pods": (), "workloads": ()}),
        ("installation", "failed", "The cluster has several releases, pantala, second",
         {"workloads": tuple(daemon_set(release=name) for name in ("pantala", "second"))}),
        ("pods", "failed", "pantala-peer: 1 of 2 ready", {"workloads": (daemon_set(ready=1),)}),
        ("pods", "failed", "ImagePullBackOff: no such image", {"pods": (_WAITING,)}),
        ("ports", "failed", "free ports", {"pods": (_UNSCHEDULED,)}),
        ("Pod Security", "failed", "enforces baseline",
         {"namespace": thing("Namespace", "pantala", **{"pod-security.kubernetes.io/enforce": "baseline"})}),
        ("versions", "warning", "peers 0.0.9",
         {"peers": (thing("Peer", "a", status={**peer("a")["status"], "version": "0.0.9"}),)}),
        ("policies", "warning", "deny limits what", {"policies": (thing("NetworkPolicy", "deny", LIMITS),)}),
        ("policies", "warning", "closed limits which pods",
         {"policies": (thing("NetworkPolicy", "closed", {"podSelector": {}}),)}),
        ("runtime", "warning", "b run cri-o", {"nodes": (node("a"), node("b", runtime="cri-o://1.34.0"))}),
        ("peers", "failed", "b: Ready!", {"peers": (peer("a"), peer("b", Ready="False"))}),
        ("peers", "warning", "b: no peer runs there", {"peers": (peer("a"),)}),
        ("peers", "warning", "a: drained", {"peers": (peer("a") | {"spec": {"unschedulable": True}}, peer("b"))}),
        ("peers", "failed", "No peer has connected", {"peers": ()}),
        ("mirror", "failed", "a, b: MirrorConfigured!",
         {"peers": (peer("a", MirrorConfigured="False"), peer("b", MirrorConfigured="False"))}),
        ("clocks", "failed", "a: ClockSynchronized!", {"peers": (peer("a", ClockSynchronized="False"), peer("b"))}),
        ("disks", "failed", "a: DiskPressure!",
         {"nodes": (thing("Node", "a", status=conditions(DiskPressure="True")), node("b"))}),
        ("volumes", "failed", "Claim data-0 is Pending",
         {"claims": (thing("PersistentVolumeClaim", "data-0", status={"phase": "Pending"}),)}),
        ("volumes", "failed", "1Mi of 100Gi free",
         {"console": msgspec.structs.replace(swarm()[0], supernodes=(_FULL,))}),
        ("supernodes", "failed", "does not answer",
         {"console": msgspec.structs.replace(swarm()[0], supernodes=(msgspec.structs.replace(_FULL, answers=False),))}),
        ("config_path", "failed", "/var/lib/rancher/k3s/agent/etc", {"nodes": (node("a", "v1.34.1+k3s1"), node("b"))}),
        ("socket", "warning", "/run/k3s/containerd", {"nodes": (node("a", "v1.34.1+k3s1"), node("b"))}),
        ("nodes", "warning", "You may not", {"nodes": (), "missing": {"nodes": "You may not list nodes."}}),
    ],
)  # fmt: skip
def test_each_problem_has_a_finding(check: str, level: str, message: str, changes: dict[str, Any]) -> None:
    findings = found(**changes)
    fitting = [each for each in findings if (each.check, each.level) == (check, level) and message in each.message]
    assert 1 == len(fitting), findings
    assert ("" if check == "nodes" else ".") == fitting[0].action[-1:]


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (Distribution.K3S, node("a", "v1.34.1+k3s1")),
        (Distribution.RKE2, node("a", "v1.34.1+rke2r1")),
        (Distribution.EKS, node("a", "v1.34.1-eks-1a2b3c")),
        (Distribution.GKE, node("a", "v1.34.1-gke.100")),
        (Distribution.AKS, thing("Node", "a", **{"kubernetes.azure.com/cluster": "c"})),
        (Distribution.OPENSHIFT, node("a", image="Red Hat Enterprise Linux CoreOS 418")),
        (Distribution.TALOS, node("a", image="Talos (v1.11.0)")),
        (Distribution.KIND, thing("Node", "a", {"providerID": "kind://docker/kind/kind-worker"})),
        (Distribution.OTHER, node("a")),
    ],
)
def test_distributions_are_recognised(expected: Distribution, given: dict[str, Any]) -> None:
    assert expected is recognise(given)


def test_a_silent_peer_says_nothing_about_its_mirror_and_has_its_own_log() -> None:
    findings = found(peers=(peer("a"), peer("b", Ready="False")))
    assert ["containerd asks the peer on 1 node"] == [each.message for each in findings if each.check == "mirror"]
    (silent,) = [each for each in findings if each.check == "peers" and each.level == Level.FAILED]
    assert "Read the log with kubectl pantala logs peer --node b." == silent.action


def test_peers_without_a_supernode_lead_to_the_supernode() -> None:
    away = {"type": "Ready", "status": "Unknown", "reason": "SupernodeUnavailable", "message": "It does not answer."}
    lost = [thing("Peer", name, status={"conditions": [away]}) for name in "ab"]
    (finding,) = [each for each in found(peers=tuple(lost)) if each.check == "peers"]
    assert (Level.FAILED, "a, b: It does not answer.") == (finding.level, finding.message)
    assert finding.action.startswith("See the finding about the supernodes.")


def test_the_picture_shows_the_next_step_below_each_problem() -> None:
    findings = found(workloads=(daemon_set(ready=1),))
    assert "next: Look at kubectl -n pantala describe daemonset pantala-peer." in rendered(picture(findings))
    assert summary(findings).endswith("1 failed, 0 warnings")


def test_doctor_ends_with_1_when_a_check_failed(command: Command, api: FakeAPIServer) -> None:
    """The scripted cluster has Peers and nothing else."""
    code, out, err = command("doctor")
    assert 1 == code
    assert "next: Install Pantala's chart" in out
    assert re.fullmatch(r"[0-9]+ findings: [1-9] failed, [0-9]+ warnings?", err.strip())
