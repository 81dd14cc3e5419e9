"""Recognises the Kubernetes distribution of nodes, and the folders of its containerd. Pure."""

from enum import StrEnum
from typing import NamedTuple

from pantala_cli.access.kinds import Resource, labels, status_of

USUAL_CERTS = "/etc/containerd/certs.d"
USUAL_SOCKET = "/run/containerd"
_RANCHER = "/var/lib/rancher/{name}/agent/etc/containerd/certs.d"


class Distribution(StrEnum):
    """The distributions that the documentation has a page for."""

    KIND = "kind"
    K3S = "k3s"
    RKE2 = "RKE2"
    EKS = "EKS"
    GKE = "GKE"
    AKS = "AKS"
    OPENSHIFT = "OpenShift"
    TALOS = "Talos"
    OTHER = "plain Kubernetes"

    @property
    def page(self) -> str:
        """The page of the documentation about this distribution."""
        return "docs/mirror.md" if self is Distribution.OTHER else f"docs/install/{self.lower()}.md"


class RuntimeLayout(NamedTuple):
    """Where containerd looks for its mirrors, and the folder of its socket."""

    certs: str = USUAL_CERTS
    socket: str = USUAL_SOCKET


LAYOUTS = {
    Distribution.K3S: RuntimeLayout(_RANCHER.format(name="k3s"), "/run/k3s/containerd"),
    Distribution.RKE2: RuntimeLayout(_RANCHER.format(name="rke2"), "/run/k3s/containerd"),
    Distribution.TALOS: RuntimeLayout("/etc/cri/conf.d/hosts"),
}

_LABELS = {
    "node.openshift.io/os_id": Distribution.OPENSHIFT,
    "eks.amazonaws.com/nodegroup": Distribution.EKS,
    "eks.amazonaws.com/compute-type": Distribution.EKS,
    "cloud.google.com/gke-nodepool": Distribution.GKE,
    "kubernetes.azure.com/cluster": Distribution.AKS,
    "kubernetes.azure.com/agentpool": Distribution.AKS,
}
_KUBELETS = {"+k3s": Distribution.K3S, "+rke2": Distribution.RKE2, "-eks-": Distribution.EKS, "-gke.": Distribution.GKE}


def recognise(node: Resource) -> Distribution:
    """Recognise one node by its operating system, its kubelet, its provider and its labels."""
    info = status_of(node).get("nodeInfo") or {}
    system, kubelet = info.get("osImage", ""), info.get("kubeletVersion", "")
    if system.startswith("Talos"):
        return Distribution.TALOS
    if "CoreOS" in system and "Red Hat" in system:
        return Distribution.OPENSHIFT
    if str((node.get("spec") or {}).get("providerID", "")).startswith("kind://"):
        return Distribution.KIND
    by_kubelet = (found for mark, found in _KUBELETS.items() if mark in kubelet)
    by_label = (found for label, found in _LABELS.items() if label in labels(node))
    return next(by_kubelet, None) or next(by_label, None) or Distribution.OTHER


def runtime(node: Resource) -> tuple[str, str]:
    """The container runtime's name and version."""
    text = (status_of(node).get("nodeInfo") or {}).get("containerRuntimeVersion", "")
    name, _, version = text.partition("://")
    return name, version
