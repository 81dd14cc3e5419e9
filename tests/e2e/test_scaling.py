"""More supernodes and fewer again, in the middle of a Task: nobody notices but by the number of pods."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pantala_protocol import task_id
from pantala_protocol.statement import owner_among
from testbed.origin import Generated, Origin
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.kubectl import Kubectl, eventually
from tests.e2e.release import Release
from tests.e2e.tasks import MIB, assert_published, manifest, status, wait_cached

_SIZE = 96 * MIB
_RATE = 4 * MIB
"""Bytes a second: what is left when supernodes go takes long enough to see them go in the middle of it."""
_SLOWLY = MIB
"""Bytes a second while supernodes come, however long that takes here."""
_NAMES = tuple(f"pantala-supernode-{number}" for number in range(3))
_LOOK = 0.2


def test_from_one_supernode_to_three_and_back_while_a_task_runs(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """The Task becomes Ready, its origin is read once; a finished Task stays Ready, and its files where they are."""
    finished, body = Generated(16 * MIB, seed=30), Generated(_SIZE, seed=31)
    done, moving = _path(origin, _NAMES[1]), _path(origin, _NAMES[2])
    origin.serve(done, finished)
    origin.serve(moving, body)
    kubectl.apply(manifest("done", namespace, origin.url(done)))
    kubectl.wait("task/done", "Ready", namespace)
    nodes = environment.nodes()

    with _kept(environment, kubectl, nodes, "done", namespace):
        origin.rate = _RATE
        kubectl.apply(manifest("moving", namespace, origin.url(moving)))
        wait_cached(kubectl, "moving", namespace, 0.1)
        try:
            origin.rate = _SLOWLY
            _scale(kubectl, 3)
            release.wait_ready()
            eventually(lambda: _assert_holders(environment, status(kubectl, "moving", namespace)["taskID"], {0, 2}))
            eventually(lambda: _assert_holders(environment, status(kubectl, "done", namespace)["taskID"], {1}))
            origin.rate = _RATE
            wait_cached(kubectl, "moving", namespace, 0.5)
        finally:
            _scale(kubectl, 1)
        kubectl.wait("task/moving", "Ready", namespace)
        assert_published(environment, nodes, f"{namespace}/moving", body)
        eventually(lambda: _assert_pods(kubectl, _NAMES[:1]), 120)

    assert_published(environment, nodes, f"{namespace}/done", finished)
    for path, size in ((done, finished.size), (moving, body.size)):
        assert size == origin.body_bytes(path), [(access.range, access.sent) for access in origin.requests(path)]
    assert _SIZE == status(kubectl, "moving", namespace)["bytes"]["origin"]


def test_tasks_find_their_supernodes_among_three(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """Each Task's file is read by its owner; all nodes get all files, and all is handed to the first in the end."""
    _scale(kubectl, 3)
    try:
        release.wait_ready()
        bodies = {name: Generated(8 * MIB, seed=40 + number) for number, name in enumerate(_NAMES)}
        paths = {name: _path(origin, name) for name in _NAMES}
        for name in _NAMES:
            origin.serve(paths[name], bodies[name])
            kubectl.apply(manifest(name, namespace, origin.url(paths[name])))
        for name in _NAMES:
            kubectl.wait(f"task/{name}", "Ready", namespace)
            assert_published(environment, environment.nodes(), f"{namespace}/{name}", bodies[name])
    finally:
        _scale(kubectl, 1)
    eventually(lambda: _assert_pods(kubectl, _NAMES[:1]), 120)
    for name in _NAMES:
        kubectl.wait(f"task/{name}", "Ready", namespace, timeout=5)
        assert_published(environment, environment.nodes(), f"{namespace}/{name}", bodies[name])
        assert [8 * MIB] == [access.sent for access in origin.requests(paths[name])]


def _path(origin: Origin, name: str) -> str:
    """A path of the origin whose task belongs to ``name`` when there are three."""
    paths = (f"/scaling-{number}" for number in itertools.count())
    return next(
        path
        for path in paths
        if owner_among(task_id.compute(origin.url(path)), _NAMES) == name and not origin.requests(path)
    )


def _scale(kubectl: Kubectl, replicas: int) -> None:
    kubectl("scale", "statefulset/pantala-supernode", f"--namespace={NAMESPACE}", f"--replicas={replicas}")


def _assert_pods(kubectl: Kubectl, names: tuple[str, ...]) -> None:
    pods = kubectl.list("pods", NAMESPACE, "app.kubernetes.io/component=supernode")
    assert list(names) == sorted(pod["metadata"]["name"] for pod in pods)


def _assert_holders(environment: Environment, named: str, numbers: set[int]) -> None:
    """Exactly these supernodes have the task on their volumes."""
    volumes = {number: environment.volume_files(number) for number in range(len(_NAMES))}
    assert numbers == {number for number, files in volumes.items() if any(named in file for file in files)}


@contextmanager
def _kept(environment: Environment, kubectl: Kubectl, nodes: list[str], name: str, namespace: str) -> Iterator[None]:
    """Meanwhile the Task never says that it is not Ready, and its file never vanishes from any node."""
    missed: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            missed.update(node for node in nodes if f"files/{namespace}/{name}" not in environment.node_files(node))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with kubectl.watching(f"task/{name}", '{.status.conditions[?(@.type=="Ready")].status}', namespace) as said:
            yield
    finally:
        over.set()
        looking.join()
    assert set() == missed, "the file was gone from a node"
    assert {"True"} == set(said), "the Task was not Ready all the time"
