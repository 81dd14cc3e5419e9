"""What the status counts and lists: only what nodes and registries have reported. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from pantala_operator.plan.prefetch.pins import Pin, size
from pantala_operator.plan.prefetch.pulls import Snapshot, Step, judged
from pantala_operator.resources.prefetch import ImageKey, ImageStatus, NodeCount, PullFailure
from pantala_operator.resources.status import advised
from pantala_protocol import reasons
from pantala_protocol.images import ImageBlob
from pantala_protocol.reasons import Reason

MAX_FAILURES: Final = 10
"""Failures that a status lists."""
_MAX_MESSAGE: Final = 512
_LAST = (
    "This run does not try it again. To start a new run, set the annotation pantala.dev/requested-at to a new value."
)
EVICTED = "The node's kubelet removed the image twice within an hour"
LEFT_OUT = "The node does not get the image"


@dataclass(frozen=True, slots=True)
class PrefetchCounts:
    """How far the nodes and images are."""

    nodes: NodeCount
    images: tuple[ImageStatus, ...]
    fetched: int
    """Bytes that nodes fetched in this run."""
    size: int | None
    """Bytes of all images for all platforms, each blob once; ``None``: not known of some."""
    failures: tuple[PullFailure, ...]
    """What prevents single nodes from being ready."""
    unresolved: tuple[PullFailure, ...]
    """Images that no node pulls."""

    @property
    def progress(self) -> str:
        noun = "node has" if self.nodes.desired == 1 else "nodes have"
        return f"{self.nodes.ready} of {self.nodes.desired} {noun} all images"

    @property
    def listed(self) -> tuple[PullFailure, ...]:
        """At most 10 failures: each reason, then each image of a reason, at least once while there is room."""
        causes, kinds = Counter[tuple[str, str]](), Counter[str]()
        ranked = []
        for each in (*self.unresolved, *self.failures):
            cause = (each.reason, each.image)
            ranked.append((causes[cause], kinds[each.reason], each))
            causes[cause] += 1
            kinds[each.reason] += 1
        ranked.sort(key=lambda rank: rank[:2])
        return tuple(each for *_, each in ranked[:MAX_FAILURES])


def count(snapshot: Snapshot) -> PrefetchCounts:
    """Count what the snapshot shows. While not all nodes have reported, each image keeps its counts from before."""
    pulls = (pull for each in snapshot.pulls.values() for pull in each.values())
    return PrefetchCounts(
        nodes=_nodes(snapshot),
        images=tuple(_images(snapshot)),
        fetched=sum(pull.fetched for pull in pulls if pull.run == snapshot.rules.run),
        size=_size(snapshot.pins.values()),
        failures=tuple(_failures(snapshot)),
        unresolved=tuple(_unresolved(snapshot)),
    )


def _nodes(snapshot: Snapshot) -> NodeCount:
    """Each reachable node counts exactly once: as ready, active, failed or waiting."""
    steps = snapshot.steps
    active = {name for name, node in steps.items() if Step.ACTIVE in node.values()}
    failed = {name for name, node in steps.items() if any(map(_failed, node.values()))} - active
    ready = snapshot.ready - active - failed
    return NodeCount(
        desired=len(steps),
        ready=len(ready),
        active=len(active),
        failed=len(failed),
        waiting=len(steps) - len(ready) - len(active) - len(failed),
        unavailable=len(snapshot.targets.unavailable),
    )


def _images(snapshot: Snapshot) -> Iterator[ImageStatus]:
    demand = snapshot.demand
    former = {each.key: each for each in demand.former.images}
    own = {task.name for task in snapshot.observed.tasks if task.owner == demand.metadata.uid}
    for key, pin in snapshot.pins.items():
        old = former.get(key, ImageStatus(key.reference))
        same = old if old.digest == pin.digest else ImageStatus(key.reference)
        known = msgspec.structs.replace(
            same,
            platform=key.platform,
            digest=pin.digest,
            latest_digest=pin.latest,
            resolved_time=pin.resolved,
            task="" if demand.planning and pin.task not in own else pin.task,
            size=_largest(pin) if pin.platforms else same.size,
        )
        if snapshot.observed.reported:
            steps = [node[key] for node in snapshot.steps.values()]
            known = msgspec.structs.replace(
                known,
                desired=len(steps),
                active=steps.count(Step.ACTIVE),
                ready=steps.count(Step.READY),
                failed=sum(map(_failed, steps)),
            )
        yield known


def _size(pins: Iterable[Pin]) -> int | None:
    known: list[ImageBlob] = []
    for pin in pins:
        if pin.platforms is None:
            return None
        known += [blob for blobs in pin.platforms.values() for blob in blobs]
    return size(known)


def _unresolved(snapshot: Snapshot) -> Iterator[PullFailure]:
    """Images that the registry did not resolve, and references that are not valid."""
    for key, why in snapshot.unresolved.items():
        found = failure("", key, why.reason, f"No node pulls it: {why.message.removeprefix(f'{key.reference}: ')}")
        yield msgspec.structs.replace(found, message=" ".join((found.message, *snapshot.images.secret_faults)))
    for each in snapshot.images.problems:
        yield PullFailure(reason=each.reason, message=each.message)


def _failures(snapshot: Snapshot) -> Iterator[PullFailure]:
    """Failed pulls, then images that nodes do not get, then nodes that cannot be reached; each sorted."""
    for name, key in sorted(snapshot.at(Step.FAILED, Step.PAUSED, Step.DUE)):
        pull = judged(snapshot.pulls[key][name], snapshot.rules, snapshot.unix)
        found = failure(name, key, pull.reason or Reason.FAILED.value, pull.message or "The pull failed")
        last = snapshot.steps[name][key] is Step.FAILED
        yield msgspec.structs.replace(found, message=f"{found.message} {_LAST}") if last else found
    for name, key in sorted(snapshot.at(Step.EVICTED)):
        yield failure(name, key, Reason.EVICTED.value, EVICTED)
    for name, key in sorted(snapshot.at(Step.LEFT_OUT)):
        yield failure(name, key, snapshot.omitted[name][key].value, LEFT_OUT)
    for name in snapshot.targets.unavailable:
        yield failure(name, ImageKey(""), Reason.NODE_UNAVAILABLE.value, "The node or its peer cannot be reached")


def failure(name: str, key: ImageKey, reason: str, message: str) -> PullFailure:
    """One entry of the list, with the advice."""
    words = message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"
    return PullFailure(name, reason, key.reference, advised(words or reason, reasons.of_image(reason)))


def _failed(step: Step) -> bool:
    return step.failing or step in (Step.EVICTED, Step.LEFT_OUT)


def _largest(pin: Pin) -> int:
    return max((size(blobs) for blobs in (pin.platforms or {}).values()), default=0)
