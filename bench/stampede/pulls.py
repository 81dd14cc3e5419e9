"""Three nodes of a real cluster pull one large image: all at the same moment, or one node before the other nodes.

They pull through the mirror of an installation of this checkout, and directly from the registry. The registry is on its
own host. Its link and the link of each node are shaped in both directions.
"""

import functools
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from bench.scenario import Runs, Sample
from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from testbed.cluster.turn import lent
from testbed.image import Image, Layer, build, push
from tests.e2e.environment import OwnCluster
from tests.e2e.release import Release

Way = Literal["mirror", "direct"]
WAYS: tuple[Way, ...] = ("mirror", "direct")
_NODES = 3
_LONGEST = 600.0
_OPTIONS = {"mirror": "--hosts-dir=/etc/containerd/certs.d", "direct": "--plain-http"}


@dataclass(frozen=True)
class StampedePlan:
    """The parameters of the measurement."""

    size: int
    """Bytes of the image's only layer, which is random."""
    megabits: int = 200
    """The bandwidth of the links of the registry and of each node, in each direction."""

    @property
    def line_seconds(self) -> float:
        """The seconds that the layer's bytes need on a link, without headers and unpacking."""
        return self.size * 8 / (self.megabits * 1e6)


class Pulls(NamedTuple):
    """Pulls that began at the same moment."""

    seconds: float
    """The seconds of the slowest pull, including unpacking."""
    registry_bytes: int
    """Bytes of blobs that the registry sent."""


def prepared(plan: StampedePlan, runs: int) -> Runs:
    """Install Pantala, and give both ways of each run. At the end the cluster is as before."""
    with lent(_NODES) as cluster:
        release = Release(OwnCluster(cluster))
        with RegistryHost("site") as registry:
            release.install()
            try:
                with _shaped(cluster, registry, plan):
                    for _ in range(runs):
                        for way in WAYS:
                            yield functools.partial(_sample, cluster, registry, plan, way)
            finally:
                release.uninstall()
                cluster.recycle_volumes()


@contextmanager
def _shaped(cluster: Cluster, registry: RegistryHost, plan: StampedePlan) -> Iterator[None]:
    rate = f"{plan.megabits}mbit"
    registry.shape(rate)
    for node in cluster.nodes:
        cluster.shape(node, rate)
    try:
        yield
    finally:
        for node in cluster.nodes:
            cluster.shape(node, "")


def _sample(cluster: Cluster, registry: RegistryHost, plan: StampedePlan, way: Way) -> Sample:
    """All nodes pull one image at once. Then one node pulls another image, and after that the other nodes."""
    nodes = cluster.nodes[:_NODES]
    with _image(cluster, registry, plan) as name:
        at_once = _pull(cluster, registry, nodes, name, way)
    with _image(cluster, registry, plan) as name:
        first = _pull(cluster, registry, nodes[:1], name, way)
        later = _pull(cluster, registry, nodes[1:], name, way)
    later = later._replace(registry_bytes=first.registry_bytes + later.registry_bytes)
    values: dict[str, float] = {}
    for name, (seconds, sent) in {"at_once": at_once, "first": first, "later": later}.items():
        values |= {f"{name}_seconds": seconds, f"{name}_times": seconds / plan.line_seconds}
        values[f"{name}_copies"] = sent / plan.size
    return Sample({"way": way}, values)


@contextmanager
def _image(cluster: Cluster, registry: RegistryHost, plan: StampedePlan) -> Iterator[str]:
    """Push a new image to the registry, and remove it from all nodes afterwards."""
    seed = random.SystemRandom().getrandbits(48)
    with tempfile.TemporaryDirectory(prefix="pantala-bench-") as folder:
        image: Image = build(Path(folder), [Layer(plan.size, seed=seed)])
        push(image, registry.host, f"bench/stampede-{seed}", "1")
    try:
        yield f"{registry.host}/bench/stampede-{seed}:1"
    finally:
        runtime.forget(cluster, {image.digest})
        registry.drop(f"bench/stampede-{seed}", image.blobs)


def _pull(cluster: Cluster, registry: RegistryHost, nodes: Sequence[str], name: str, way: Way) -> Pulls:
    registry.registry.forget()

    def pull(node: str) -> float:
        began = time.monotonic()
        cluster.enter(node, *runtime.CTR, "images", "pull", _OPTIONS[way], name, timeout=_LONGEST)
        return time.monotonic() - began

    with ThreadPoolExecutor(len(nodes)) as pool:
        seconds = max(pool.map(pull, nodes))
    return Pulls(seconds, sum(registry.registry.blob_bytes().values()))
