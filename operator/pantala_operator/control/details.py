"""The nodes of one Task or ImagePrefetch, and the causes why it is not done. The console and its clients show them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pantala_operator.control.prefetch import PrefetchController
from pantala_operator.control.tasks import TaskController
from pantala_operator.plan import explanation, image_task
from pantala_operator.plan.nodes import SourceBytes
from pantala_operator.plan.prefetch.pulls import FAILING, Snapshot, Step
from pantala_operator.ports import Clock
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch
from pantala_operator.watch.observation import Observation
from pantala_protocol import reasons, task_id
from pantala_protocol.console.progress import NodeDownload
from pantala_protocol.console.views import Cause, NodeFlow, NodePhase, NodeView, Traffic
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import MAX_CLOCK_SKEW

_FAILED: Final = FAILING | {Step.EVICTED, Step.LEFT_OUT}


class Details:
    """Looks at one object at a time, only when asked. The cost grows with the number of its nodes."""

    def __init__(
        self, observation: Observation, tasks: TaskController, prefetches: PrefetchController, clock: Clock
    ) -> None:
        self._known = observation
        self._tasks = tasks
        self._prefetches = prefetches
        self._clock = clock

    def nodes(self, each: TaskResource | ImagePrefetch) -> tuple[NodeView, ...]:
        """All nodes of the object, sorted by their names."""
        if isinstance(each, TaskResource) and not each.spec.is_image:
            return self._tasks.nodes(each, self._clock.now()).views()
        snapshot, keys = self._images(each)
        if snapshot is None:
            return ()
        zones = self._known.zones
        downloads = (self._known.progress.downloads(blob) for blob in _blobs(snapshot, keys))
        moving = [each.nodes for each in downloads if each.nodes]
        return tuple(_image_node(name, snapshot, keys, moving, zones.get(name, "")) for name in snapshot.targets.wanted)

    def causes(
        self, each: TaskResource | ImagePrefetch, nodes: Sequence[NodeView], began: Mapping[str, float]
    ) -> tuple[Cause, ...]:
        """Why the object with these ``nodes`` is not done. Empty if it is done, or if nothing blocks it.

        ``began``: when its conditions got their reasons, as far as it is known.
        """
        source = None
        if isinstance(each, TaskResource) and each.status.task_id:
            source = self._known.progress.downloads(each.status.task_id).source
        return explanation.causes(each.status.conditions, nodes, source=source, clocks=self.clocks(), began=began)

    def traffic(self, each: TaskResource | ImagePrefetch) -> Traffic:
        """The bytes and rates of the blobs of an object's images, each blob once. Zero: not known."""
        snapshot, keys = self._images(each)
        blobs = _blobs(snapshot, keys) if snapshot is not None else ()
        origin, supernode, peers = self._known.progress.moved_of(blobs) or SourceBytes()
        # the bytes are from before the start of this process
        if isinstance(each, TaskResource) and each.status.transferred is not None:
            before = each.status.transferred
            origin, supernode, peers = (
                max(origin, before.origin), max(supernode, before.from_supernode), max(peers, before.from_peers),
            )  # fmt: skip
        rates = SourceBytes.total(self._known.progress.downloads(blob).rates for blob in blobs)
        return Traffic(origin, supernode, peers, *rates)

    def _images(self, each: TaskResource | ImagePrefetch) -> tuple[Snapshot | None, list[ImageKey]]:
        """The newest snapshot of an object with images, and its images."""
        owner = image_task.owner(each) if isinstance(each, TaskResource) else ""
        snapshot = self._prefetches.snapshot(owner or each.metadata.uid)
        if snapshot is None:
            return None, []
        wanted = each.metadata.name if owner else ""
        return snapshot, [key for key, pin in snapshot.pins.items() if wanted in ("", pin.task)]

    def clocks(self) -> Mapping[str, int]:
        """By how many seconds the clocks of nodes are ahead, for those that are wrong."""
        reports = self._known.supernodes.peers.items()
        found = {name: each.clock_ahead for name, each in reports if each.connected}
        return {name: ahead for name, ahead in found.items() if ahead is not None and abs(ahead) > MAX_CLOCK_SKEW}


def _blobs(snapshot: Snapshot, keys: list[ImageKey]) -> set[str]:
    """The IDs of the tasks of the images' blobs."""
    return {task_id.of_blob(digest) for key in keys for digest in snapshot.pins[key].blobs}


def _image_node(
    name: str,
    snapshot: Snapshot,
    keys: list[ImageKey],
    blobs: Iterable[Mapping[str, NodeDownload]],
    zone: str,
) -> NodeView:
    steps = snapshot.steps.get(name)
    pulls = {key: snapshot.pulls[key][name] for key in keys if name in snapshot.pulls.get(key, {})}
    if steps is not None and keys and all(steps[key] is Step.READY for key in keys):
        return NodeView(name, NodePhase.READY, zone, sum(pull.state.fetched for pull in pulls.values()))
    flows: dict[str, tuple[int, int]] = {}
    rate = pace = 0
    for found in blobs:
        if (node := found.get(name)) is not None:
            rate, pace = rate + node.rate, pace + node.pace
            for flow in node.flows:
                so_far, speed = flows.get(flow.provider, (0, 0))
                flows[flow.provider] = so_far + flow.bytes, speed + flow.rate
    trouble = (snapshot.troubles if steps is not None else snapshot.observed.troubles).get(name)
    phase, reason, message, since = NodePhase.WAITING, "", "", None
    failed = next((key for key in keys if steps is not None and steps[key] in _FAILED), None)
    if steps is None and trouble is None:
        phase, reason, message = NodePhase.FAILED, Reason.NODE_UNAVAILABLE, "The node or its peer cannot be reached"
    elif failed is not None:
        pull = pulls.get(failed)
        phase = NodePhase.FAILED
        reason, message, since = _failure(name, failed, snapshot), pull.message if pull is not None else "", None
    elif trouble is not None:
        phase, reason, message, since = NodePhase.LATE, trouble.reason, trouble.message, trouble.since
    elif any(steps is not None and steps[key] is Step.ACTIVE for key in keys):
        phase = NodePhase.FETCHING
    fetched = sum(pull.state.fetched for pull in pulls.values())
    return NodeView(
        name,
        phase,
        zone,
        bytes=fetched,
        rate=rate,
        eta=round(max(_size(snapshot, keys) - fetched, 0) / pace, 1) if pace else None,
        reason=reason,
        message=message,
        action=reasons.of_image(reason).action if reason else "",
        since=since,
        flows=tuple(NodeFlow(provider or "supernode", *both) for provider, both in flows.items()),
    )


def _size(snapshot: Snapshot, keys: list[ImageKey]) -> int:
    """The bytes of the images on the platform for which they are the largest."""
    platforms = ((snapshot.pins[key].platforms or {}).values() for key in keys)
    return sum(max((sum(blob.size for blob in set(blobs)) for blobs in each), default=0) for each in platforms)


def _failure(name: str, key: ImageKey, snapshot: Snapshot) -> str:
    step = snapshot.steps[name][key]
    if step is Step.LEFT_OUT:
        return snapshot.omitted[name][key].value
    if step is Step.EVICTED:
        return Reason.EVICTED
    return snapshot.pulls[key][name].reason or Reason.FAILED
