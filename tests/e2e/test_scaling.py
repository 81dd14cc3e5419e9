"""Supernodes are added and removed during a Task. Users notice only the number of pods."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pantala_protocol import task_id
from pantala_protocol.statement import owner_among
from testbed.origin import Generated, Origin
from tests.e2e.case import MIB, Case, passes
from tests.e2e.environment import NAMESPACE

_SIZE = 96 * MIB
_RATE = 4 * MIB
"""Bytes a second. The rest of the file takes longer than the supernodes need to leave."""
_SLOWLY = MIB
"""Bytes a second while supernodes are added, which may take long here."""
_SUPERNODE = "statefulset/pantala-supernode"
_NAMES = tuple(f"pantala-supernode-{number}" for number in range(3))
_LOOK = 0.2


def test_from_one_supernode_to_three_and_back_while_a_task_runs(case: Case, origin: Origin) -> None:
    """The Task becomes Ready with one read of its origin. A finished Task stays Ready and keeps its files."""
    finished, body = Generated(16 * MIB, seed=30), Generated(_SIZE, seed=31)
    done, moving = _path(origin, _NAMES[1]), _path(origin, _NAMES[2])
    origin.serve(done, finished)
    origin.serve(moving, body)
    case.apply(case.task("done", origin.url(done)))
    case.ready("task/done")

    with _stays_published(case, "done"):
        origin.rate = _RATE
        case.apply(case.task("moving", origin.url(moving)))
        case.cached("moving", 0.1)
        try:
            origin.rate = _SLOWLY
            case.kubectl.scale(_SUPERNODE, 3, NAMESPACE)
            case.release.wait_ready()
            passes(lambda: _assert_holders(case, "moving", {0, 2}))
            passes(lambda: _assert_holders(case, "done", {1}))
            origin.rate = _RATE
            case.cached("moving", 0.5)
        finally:
            case.kubectl.scale(_SUPERNODE, 1, NAMESPACE)
        case.ready("task/moving")
        case.assert_published("moving", body)
        passes(lambda: _assert_one_pod(case), within=120)

    case.assert_published("done", finished)
    for path, size in ((done, finished.size), (moving, body.size)):
        assert size == origin.body_bytes(path), [(access.range, access.sent) for access in origin.requests(path)]
    assert _SIZE == case.status("task/moving")["bytes"]["origin"]


def test_each_of_three_supernodes_owns_its_tasks(case: Case, origin: Origin) -> None:
    """The owner reads a Task's file and all nodes get it. At the end the first supernode takes all Tasks."""
    bodies = {name: Generated(8 * MIB, seed=40 + number) for number, name in enumerate(_NAMES)}
    paths = {name: _path(origin, name) for name in _NAMES}
    case.kubectl.scale(_SUPERNODE, 3, NAMESPACE)
    try:
        case.release.wait_ready()
        for name in _NAMES:
            origin.serve(paths[name], bodies[name])
            case.apply(case.task(name, origin.url(paths[name])))
        for name in _NAMES:
            case.ready(f"task/{name}")
            case.assert_published(name, bodies[name])
    finally:
        case.kubectl.scale(_SUPERNODE, 1, NAMESPACE)
    passes(lambda: _assert_one_pod(case), within=120)
    for name in _NAMES:
        case.ready(f"task/{name}", timeout=5)
        case.assert_published(name, bodies[name])
        assert [8 * MIB] == [access.sent for access in origin.requests(paths[name])]


def _path(origin: Origin, name: str) -> str:
    """A new path of the origin. Of three supernodes, ``name`` owns its task."""
    paths = (f"/scaling-{number}" for number in itertools.count())
    return next(
        path
        for path in paths
        if owner_among(task_id.compute(origin.url(path)), _NAMES) == name and not origin.requests(path)
    )


def _assert_one_pod(case: Case) -> None:
    pods = case.kubectl.list("pods", NAMESPACE, "app.kubernetes.io/component=supernode")
    assert [_NAMES[0]] == [pod["metadata"]["name"] for pod in pods]


def _assert_holders(case: Case, name: str, numbers: set[int]) -> None:
    task = case.status(f"task/{name}")["taskID"]
    volumes = {number: case.environment.volume_files(number) for number in range(len(_NAMES))}
    assert numbers == {number for number, files in volumes.items() if any(task in file for file in files)}


@contextmanager
def _stays_published(case: Case, name: str) -> Iterator[None]:
    """During the block, the Task stays Ready and its file stays on every node."""
    nodes, path = case.nodes, f"files/{case.namespace}/{name}"
    missing: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            missing.update(node for node in nodes if path not in case.environment.node_files(node))

    looking = threading.Thread(target=look)
    looking.start()
    ready = '{.status.conditions[?(@.type=="Ready")].status}'
    try:
        with case.kubectl.watching(f"task/{name}", ready, case.namespace) as statuses:
            yield
    finally:
        over.set()
        looking.join()
    assert set() == missing, "a node lost the file"
    assert {"True"} == set(statuses), "the Task was not Ready all the time"
