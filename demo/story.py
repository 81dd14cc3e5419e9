"""The steps of the demo: apply the sample Task, watch the bytes, check every file, count the origin's bytes."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.errors import DemoError
from demo.payload import Payload, ServedPayload, sha256
from demo.place import Place, Taken
from demo.screen import Moment, Screen
from pantala_cli.access.cluster import Cluster, connect
from pantala_cli.access.kinds import TASK, condition

_SAMPLE = Path(__file__).resolve().parents[1] / "crds" / "samples" / "task.yaml"
_SECONDS = 300.0
_LOOK_EVERY = 0.1

Resource = dict[str, Any]


@dataclass(frozen=True)
class NodeResult:
    """The file of one node at the end, and the bytes that the node received."""

    node: str
    path: Path
    size: int
    sha256: str
    taken: Taken | None
    """The bytes that the node received, by provider. ``None`` if not known."""


@dataclass(frozen=True)
class Result:
    """The result of the demo."""

    task: Resource
    nodes: tuple[NodeResult, ...]
    seconds: float
    """Seconds from ``kubectl apply`` until the Task was Ready."""
    origin_bytes: int
    """Body bytes in the origin's access log."""
    origin_requests: int


def sample(url: str, payload: Payload, name: str) -> Resource:
    """The sample Task with this URL, digest and name. The sample's own name says what its own file is."""
    task = dict(yaml.safe_load(_SAMPLE.read_text()))
    task["metadata"]["name"] = name
    task["spec"]["source"]["url"] = url
    task["spec"]["digest"] = f"sha256:{payload.sha256}"
    return task


def tell(place: Place, payload: Payload, screen: Screen) -> Result:
    """Distribute the payload. Raises :class:`DemoError` if that fails."""
    with ServedPayload(payload, place.origin_host, place.origin_rate) as origin:
        task = sample(origin.url, payload, place.task_name)
        name, namespace = task["metadata"]["name"], task["metadata"]["namespace"]
        began = time.monotonic()
        place.kubectl("apply", "-f", "-", text=yaml.safe_dump(task, sort_keys=False))
        screen.say(f"kubectl apply: Task {namespace}/{name} with source {origin.url}")
        with connect(str(place.kubeconfig or "")) as cluster, screen:
            ready = _follow(place, cluster, origin, screen, (namespace, name))
        seconds = time.monotonic() - began
        taken = place.taken(ready["status"]["taskID"])
        nodes = tuple(
            NodeResult(node, path, path.stat().st_size, sha256(path), taken.get(node))
            for node, path in place.files(ready["status"]["path"]).items()
            if path.exists()
        )
        return Result(ready, nodes, seconds, origin.sent, origin.requests)


def faults(result: Result, payload: Payload, wanted: int) -> list[str]:
    """Return a text for each fault of the result. ``wanted`` is the number of nodes that must have the file."""
    status = result.task["status"]
    wrong = []
    if result.origin_bytes != payload.size:
        wrong.append(f"the origin sent {result.origin_bytes} bytes instead of {payload.size}")
    if status["digest"] != f"sha256:{payload.sha256}":
        wrong.append(f"the Task's status has the digest {status['digest']} instead of sha256:{payload.sha256}")
    if status["peers"]["ready"] != status["peers"]["desired"] or status["peers"]["ready"] < wanted:
        wrong.append(f"{status['peers']['ready']} of {max(wanted, status['peers']['desired'])} nodes are ready")
    if result.nodes and len(result.nodes) != wanted:
        wrong.append(f"{len(result.nodes)} nodes have the file instead of {wanted}")
    wrong += [f"{node.node} has other content" for node in result.nodes if node.sha256 != payload.sha256]
    return wrong


def _follow(place: Place, cluster: Cluster, origin: ServedPayload, screen: Screen, key: tuple[str, str]) -> Resource:
    """Show progress until the Task is Ready."""
    deadline = time.monotonic() + _SECONDS
    while True:
        place.check()
        task = cluster.get(TASK, *key)
        screen.show(_moment(place, origin, task))
        if condition(task, "Ready").get("status") == "True":
            return task
        stalled = condition(task, "Stalled")
        if stalled.get("status") == "True":
            raise DemoError(f"The Task is stalled: {stalled['reason']}: {stalled['message']}", place.log("supernode"))
        if time.monotonic() > deadline:
            last = json.dumps(condition(task, "Ready"))
            raise DemoError(f"The Task is not Ready after {_SECONDS:.0f} s: {last}", place.log("supernode"))
        time.sleep(_LOOK_EVERY)


def _moment(place: Place, origin: ServedPayload, task: Resource) -> Moment:
    status = task.get("status") or {}
    moved, peers = status.get("bytes") or {}, status.get("peers") or {}
    return Moment(
        size=origin.payload.size,
        origin=origin.sent,
        supernode=moved.get("fromSupernode", 0),
        peers=moved.get("fromPeers", 0),
        nodes=place.held(status["taskID"]) if status.get("taskID") else {},
        ready=f"{peers.get('ready', 0)} of {peers.get('desired', '?')}",
    )
