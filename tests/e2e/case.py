"""One end-to-end case: its namespace, its resources and what is checked again and again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from testbed.cluster.command import CommandError
from testbed.origin import Body
from testbed.origin import sha256 as digest_of
from tests.e2e.environment import Environment
from tests.e2e.images import Pushed
from tests.e2e.kubectl import Resource
from tests.e2e.release import Release
from tests.support.eventually import eventually_blocking

MIB = 1024 * 1024


class Case:
    """The installed release on its cluster, and a namespace of the case's own."""

    def __init__(self, environment: Environment, release: Release, namespace: str) -> None:
        self.environment = environment
        self.release = release
        self.kubectl = environment.kubectl
        self.namespace = namespace

    @property
    def nodes(self) -> list[str]:
        return self.environment.nodes()

    # Resources

    def apply(self, *resources: Resource) -> None:
        self.kubectl.apply(*resources)

    def resource(self, kind: str, name: str, api: str = "v1", **content: Any) -> Resource:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **content}

    def task(self, name: str, url: str, **spec: Any) -> Resource:
        return self.resource("Task", name, "pantala.dev/v1alpha1", spec={"source": {"url": url}, **spec})

    def prefetch(self, name: str, *images: Pushed | str, **spec: Any) -> Resource:
        names = [{"image": image if isinstance(image, str) else image.name} for image in images]
        return self.resource("ImagePrefetch", name, "pantala.dev/v1alpha1", spec={"images": names, **spec})

    def pod(
        self, name: str, image: str, node: str, *, labels: Mapping[str, str] | None = None,
        pull: str = "IfNotPresent", **spec: Any,
    ) -> Resource:  # fmt: skip
        """A pod for one node. The scheduler places it, so taints keep it away."""
        made = self.resource("Pod", name, spec={
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": pull}],
            **spec,
        })  # fmt: skip
        made["metadata"]["labels"] = labels or {}
        return made

    def get(self, name: str) -> Resource:
        return self.kubectl.get(name, self.namespace)

    def status(self, name: str) -> Resource:
        found: Resource = self.get(name).get("status", {})
        return found

    def condition(self, name: str, kind: str) -> Resource:
        """One of its conditions. Empty if it has none of this type."""
        every = self.status(name).get("conditions", [])
        found: Resource = next((each for each in every if each["type"] == kind), {})
        return found

    # Waits

    def ready(self, *names: str, timeout: float = 120.0) -> None:
        for name in names:
            self.kubectl.wait(name, "Ready", self.namespace, timeout=timeout)

    def pods_ready(self) -> None:
        self.kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s", f"--namespace={self.namespace}")

    def cached(self, name: str, share: float) -> Resource:
        """Wait until the supernode has ``share`` (0..1) of a Task's pieces, but not all. Return the status."""

        def reached() -> Resource | None:
            status = self.status(f"task/{name}")
            pieces = {"total": 0, "cached": 0, **status.get("pieces", {})}
            return status if pieces["total"] and pieces["cached"] >= share * pieces["total"] else None

        status = eventually_blocking(reached, within=60, every=0.3, what=f"{share:.0%} of {name} are cached")
        assert status["pieces"]["cached"] < status["pieces"]["total"], (
            "the Task was complete too early: slow the origin"
        )
        return status

    # Checks

    def assert_published(self, path: str, body: Body, nodes: Sequence[str] | None = None) -> None:
        """Each node has the right content. ``path`` is below the files' root, or a name for the default path."""
        path = path if "/" in path else f"{self.namespace}/{path}"
        nodes = self.nodes if nodes is None else nodes
        assert dict.fromkeys(nodes, digest_of(body)) == {node: self.environment.sha256(node, path) for node in nodes}

    def assert_nothing_left(self, task_id: str, path: str) -> None:
        """Within a minute no file of the task is on the volume or on any node."""

        def removed() -> None:
            assert [] == [file for file in self.environment.volume_files() if task_id in file], "left on the volume"
            for node in self.nodes:
                left = [
                    file for file in self.environment.node_files(node) if task_id in file or file == f"files/{path}"
                ]
                assert [] == left, f"left on {node}"

        passes(removed)


def passes(check: Callable[[], object], within: float = 60.0, every: float = 0.5) -> None:

    def passed() -> bool:
        check()
        return True

    eventually_blocking(passed, within=within, every=every, ignoring=(AssertionError, CommandError))
