"""The chart on the cluster."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed.cluster.command import run
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.former import Former
from tests.e2e.kubectl import Resource

_CHART = Path(__file__).resolve().parents[2] / "charts" / "pantala"
NAME = "pantala"


class Release:
    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._kubectl = environment.kubectl
        self._values: Sequence[str] = ()
        self.settings_before: Mapping[str, Mapping[str, str]] = {}
        """containerd's settings before the installation, by node."""

    @property
    def installed(self) -> bool:
        return bool(self._kubectl.list("secrets", NAMESPACE, f"owner=helm,name={NAME}"))

    def install(self, *more: str, former: Former | None = None) -> None:
        """Remove an earlier installation, install the chart or a former one, and wait until all pods are ready.

        ``more``: further flags, also for later upgrades.
        """
        if self.installed:
            self.uninstall()
        environment = self._environment
        self.settings_before = {node: environment.containerd_settings(node) for node in environment.nodes()}
        self._values = [
            *environment.values(),
            f"--set=sources.allowed={{{environment.host}}}",
            "--set=prefetch.startupTaints={startup.pantala.dev/}",
            "--set=prefetch.podSelectors=true",
            *more,
        ]
        chart, values = (_CHART, self._values) if former is None else (former.chart, former.values(self._values))
        self._helm("install", NAME, str(chart), f"--namespace={NAMESPACE}", "--create-namespace", *values)
        self.wait_ready()

    def upgrade(self, *more: str) -> None:
        """Upgrade to this chart with more values, and keep them for later upgrades."""
        self._values = [*self._values, *more]
        self._upgrade()

    def rollback(self, revision: int) -> None:
        self._helm("rollback", NAME, str(revision), f"--namespace={NAMESPACE}")
        self.wait_ready()

    def test(self) -> str:
        """Run ``helm test``, and return its output."""
        return self._helm("test", NAME, f"--namespace={NAMESPACE}", "--timeout=150s")

    @contextmanager
    def changed(self, **values: object) -> Iterator[None]:
        """Upgrade the release with more values during the block. ``__`` in a name stands for a dot."""
        more = [f"--set-json={name.replace('__', '.')}={json.dumps(value)}" for name, value in values.items()]
        try:
            self._upgrade(*more)
            yield
        finally:
            self._upgrade()

    def _upgrade(self, *more: str) -> None:
        self._helm("upgrade", NAME, str(_CHART), f"--namespace={NAMESPACE}", "--reset-values", *self._values, *more)
        self.wait_ready()

    def wait_ready(self, timeout: int = 180) -> None:
        for workload in ("statefulset/pantala-supernode", "daemonset/pantala-peer", "deployment/pantala-operator"):
            self._kubectl("rollout", "status", workload, f"--namespace={NAMESPACE}", f"--timeout={timeout}s",
                          timeout=timeout + 30)  # fmt: skip

    def uninstall(self) -> str:
        """Return the output of helm, which must name what is kept."""
        return self._helm("uninstall", NAME, f"--namespace={NAMESPACE}", "--wait", "--timeout=120s")

    def node_of(self, component: str) -> str:
        return str(self._pod(component)["spec"]["nodeName"])

    def kill(self, component: str) -> None:
        """End the component's pod at once, like a crash of the runtime."""
        self._kubectl("delete", "pod", self._name(component), f"--namespace={NAMESPACE}", "--grace-period=0", "--force")

    def sent_bytes(self, component: str) -> int:
        """The bytes that the component's pod has sent over its network link since its start."""
        table = self._kubectl("exec", f"--namespace={NAMESPACE}", self._name(component), "--", "cat", "/proc/net/dev")
        line = next(line for line in table.splitlines() if line.strip().startswith("eth0:"))
        return int(line.partition(":")[2].split()[8])

    def _pod(self, component: str) -> Resource:
        pods = self._kubectl.list("pods", NAMESPACE, f"app.kubernetes.io/component={component}")
        running = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        if component == "operator":  # the leading one of two
            lease = self._kubectl.get("lease/pantala-operator", NAMESPACE)
            leader = lease["spec"]["holderIdentity"].rpartition("_")[0]
            running.sort(key=lambda pod: pod["metadata"]["name"] != leader)
        return running[0]

    def _name(self, component: str) -> str:
        return str(self._pod(component)["metadata"]["name"])

    def _helm(self, *arguments: str) -> str:
        environment = self._environment
        command = (str(environment.helm), f"--kubeconfig={environment.kubeconfig}", *arguments)
        return run(*command, timeout=300, all_output=True)
