"""The chart on the cluster."""

from collections.abc import Mapping
from pathlib import Path

from testbed.cluster.command import run
from tests.e2e.environment import NAMESPACE, Environment

_CHART = Path(__file__).resolve().parents[2] / "charts" / "pantala"
NAME = "pantala"


class Release:
    """One installation of the chart."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._kubectl = environment.kubectl
        self.settings_before: Mapping[str, Mapping[str, str]] = {}
        """containerd's settings before it was installed, by node."""

    @property
    def installed(self) -> bool:
        """Whether it is there now."""
        return bool(self._kubectl.list("secrets", NAMESPACE, f"owner=helm,name={NAME}"))

    def install(self) -> None:
        """Install anew, without what an earlier run may have left; returns when all pods are ready."""
        if self.installed:
            self.uninstall()
        environment = self._environment
        self.settings_before = {node: environment.containerd_settings(node) for node in environment.nodes()}
        self._helm(
            "install", NAME, str(_CHART), f"--namespace={NAMESPACE}", "--create-namespace",
            *self._environment.values(),
        )  # fmt: skip
        self.wait_ready()

    def wait_ready(self, timeout: int = 180) -> None:
        """Return when all pods of it are ready."""
        for workload in ("statefulset/pantala-supernode", "daemonset/pantala-peer", "deployment/pantala-operator"):
            self._kubectl("rollout", "status", workload, f"--namespace={NAMESPACE}", f"--timeout={timeout}s",
                          timeout=timeout + 30)  # fmt: skip

    def uninstall(self) -> str:
        """Uninstall; gives all that helm said, which has to tell what is kept."""
        return self._helm("uninstall", NAME, f"--namespace={NAMESPACE}", "--wait", "--timeout=120s")

    def pod(self, component: str, node: str = "") -> str:
        """The name of the component's running pod, on a node if one is named."""
        pods = self._kubectl.list("pods", NAMESPACE, f"app.kubernetes.io/component={component}")
        return next(
            str(pod["metadata"]["name"])
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"] and node in ("", pod["spec"].get("nodeName"))
        )

    def node_of(self, component: str) -> str:
        """The node that the component's pod runs on."""
        return str(self._kubectl.get("pod", self.pod(component), NAMESPACE)["spec"]["nodeName"])

    def kill(self, component: str) -> None:
        """End the component's pod at once, as a crash of its node's runtime would."""
        self._kubectl("delete", "pod", self.pod(component), f"--namespace={NAMESPACE}", "--grace-period=0", "--force")

    def sent_bytes(self, component: str) -> int:
        """What the component's pod has put on its network link since it started, in bytes."""
        table = self._kubectl("exec", f"--namespace={NAMESPACE}", self.pod(component), "--", "cat", "/proc/net/dev")
        line = next(line for line in table.splitlines() if line.strip().startswith("eth0:"))
        return int(line.partition(":")[2].split()[8])

    def _helm(self, *arguments: str) -> str:
        environment = self._environment
        command = (str(environment.helm), f"--kubeconfig={environment.kubeconfig}", *arguments)
        return run(*command, timeout=300, all_output=True)
