"""The cluster of the cases: the testbed's own, or any other by its kubeconfig."""

import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed.binaries import assets
from testbed.cluster import Cluster, installation
from tests.e2e.kubectl import Kubectl

NAMESPACE = "pantala-system"
ROOT = "/var/lib/pantala"


class OwnCluster:
    """The testbed's cluster. This machine reads its disks."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kubeconfig = cluster.kubeconfig
        self.host = cluster.host
        """The address by which pods reach this machine."""
        self.helm = cluster.programs["helm"]
        self.kubectl = Kubectl(cluster.programs["kubectl"], cluster.kubeconfig)

    def values(self) -> Sequence[str]:
        return installation.values(self.cluster)

    def nodes(self) -> list[str]:
        return self.cluster.nodes

    def sha256(self, node: str, path: str) -> str:
        """The hex sha256 of a published file on a node. Empty if the node does not have it."""
        file = self.cluster.path(node, f"{ROOT}/files/{path}")
        if not file.is_file():
            return ""
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    def node_files(self, node: str) -> list[str]:
        """All files of Pantala on the node, published or cached."""
        return _files(self.cluster.path(node, ROOT))

    def containerd_settings(self, node: str) -> Mapping[str, str]:
        """Owner, mode and content of all files below ``/etc/containerd``. Empty if the cluster does not show them."""
        return _tree(self.cluster.path(node, "/etc/containerd"))

    def volume_files(self, number: int = 0) -> list[str]:
        """All files on a supernode's volume."""
        claim = self.kubectl.get(f"persistentvolumeclaim/data-pantala-supernode-{number}", NAMESPACE)
        volume = self.kubectl.get(f"persistentvolume/{claim['spec']['volumeName']}")
        return _files(Path(volume["spec"]["local"]["path"]))


class GivenCluster:
    """The cluster of ``KUBECONFIG``. Its files are read by commands in its pods."""

    def __init__(self, kubeconfig: Path) -> None:
        programs = assets(["kubectl", "helm"])
        self.kubeconfig = kubeconfig
        self.helm = programs["helm"]
        self.kubectl = Kubectl(programs["kubectl"], kubeconfig)
        self.host = os.environ["PANTALA_E2E_HOST"]
        self._values = shlex.split(os.environ["PANTALA_E2E_HELM_ARGS"])

    def values(self) -> Sequence[str]:
        return self._values

    def nodes(self) -> list[str]:
        return [node["metadata"]["name"] for node in self.kubectl.list("nodes")]

    def sha256(self, node: str, path: str) -> str:
        program = (
            "import hashlib,os,sys; p=sys.argv[1]; "
            "print(hashlib.file_digest(open(p,'rb'),'sha256').hexdigest() if os.path.isfile(p) else '')"
        )
        return self._python(self._peer(node), program, f"{ROOT}/files/{path}").strip()

    def node_files(self, node: str) -> list[str]:
        return self._listing(self._peer(node))

    def containerd_settings(self, node: str) -> Mapping[str, str]:
        return {}

    def volume_files(self, number: int = 0) -> list[str]:
        return self._listing(f"pantala-supernode-{number}")

    def _peer(self, node: str) -> str:
        pods = self.kubectl.list("pods", NAMESPACE, "app.kubernetes.io/component=peer")
        return str(next(pod["metadata"]["name"] for pod in pods if pod["spec"]["nodeName"] == node))

    def _listing(self, pod: str) -> list[str]:
        program = (
            "import json,os,sys; r=sys.argv[1]; "
            "print(json.dumps([os.path.relpath(os.path.join(d,f),r) for d,_,fs in os.walk(r) for f in fs]))"
        )
        found: list[str] = json.loads(self._python(pod, program, ROOT))
        return sorted(found)

    def _python(self, pod: str, program: str, *arguments: str) -> str:
        return self.kubectl("exec", f"--namespace={NAMESPACE}", pod, "--", "python3", "-c", program, *arguments)


Environment = OwnCluster | GivenCluster
"""What the cases use of a cluster."""


def _files(folder: Path) -> list[str]:
    # Unlike Path.rglob, os.walk does not fail when a file is deleted during the walk.
    return sorted(str((Path(at) / file).relative_to(folder)) for at, _, files in os.walk(folder) for file in files)


def _tree(folder: Path) -> dict[str, str]:
    found = {}
    for path in (folder, *folder.rglob("*")):
        about = path.lstat()
        if path.is_symlink():
            content = str(path.readlink())
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = f"{about.st_uid}:{about.st_gid} {about.st_mode:o} {content}"
    return found
