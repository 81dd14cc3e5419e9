"""Counts nodes, images, bytes and failures for the status, only by what nodes and registries have reported. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from pantala_operator.plan.nodes import MAX_NODES, Trouble, varied
from pantala_operator.plan.prefetch.pulls import FAILING, Snapshot, Step
from pantala_operator.resources.prefetch import ImageKey, ImageStatus, NodeCount, PullFailure
from pantala_operator.resources.status import advised, have
from pantala_protocol import reasons
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import text
from pantala_protocol.rules.quantity import percent

_MAX_MESSAGE: Final = 512
_LAST = (
    "This run does not retry the pull. To start a new run, set the annotation pantala.dev/requested-at to a new value."
)
EVICTED = "The node's kubelet removed the image twice within an hour"
LEFT_OUT = "The node does not get the image"
_BEHIND: Final = (*FAILING, Step.EVICTED, Step.LEFT_OUT)
"""The steps of an image at which its node counts as failed."""


@dataclass(frozen=True, slots=True)
class PrefetchCounts:
    """The numbers, lists and bytes of one status."""

    nodes: NodeCount
    images: tuple[ImageStatus, ...]
    fetched: int
    """Bytes that the nodes have fetched in this run."""
    size: int | None
    """Bytes of all images for all platforms, each blob once. ``None`` if the size of a blob is not known."""
    failures: tuple[PullFailure, ...]
    """The failures that are about single nodes."""
    unresolved: tuple[PullFailure, ...]
    """The failures that are about an image on all nodes: no node can pull it."""
    listed: tuple[PullFailure, ...]
    """Some of ``failures`` and ``unresolved``, for the status. Together with the late nodes, they are at most 10."""
    progress: str
    """The progress as a text for a condition's message."""
    late: Mapping[str, Trouble] = field(default_factory=dict)
    """The nodes that make too little progress."""
    share: str = ""
    """The share of all bytes on all nodes that is done, such as ``42%``. Empty: not known."""


def count(snapshot: Snapshot) -> PrefetchCounts:
    """Count what the snapshot shows. Each reachable node counts exactly once: as ready, active, failed or waiting.

    While not all nodes have reported, each image keeps its counts from before.
    """
    demand, observed, steps, pins = snapshot.demand, snapshot.observed, snapshot.steps, snapshot.pins
    busy = {name for name, _ in snapshot.places[Step.ACTIVE]}
    behind = {name for step in _BEHIND for name, _ in snapshot.places[step]}
    ready, failed = snapshot.ready - busy - behind, behind - busy
    troubles = snapshot.troubles
    late = {name: troubles[name] for name in sorted(troubles) if name in steps and name not in ready | failed}
    active = busy - late.keys()
    former = {each.key: each for each in demand.former.images}
    own = {task.name for task in observed.tasks if task.owner == demand.metadata.uid}
    images, moved, whole = [], 0, 0
    for key, pin in pins.items():
        old = former.get(key, ImageStatus(key.reference))
        same = old if old.digest == pin.digest else ImageStatus(key.reference)
        lengths = [sum({blob.digest: blob.size for blob in each}.values()) for each in (pin.platforms or {}).values()]
        known = msgspec.structs.replace(
            same,
            platform=key.platform,
            digest=pin.digest,
            latest_digest=pin.latest,
            resolved_time=pin.resolved,
            task="" if demand.spec.planning and pin.task not in own else pin.task,
            size=max(lengths, default=same.size),
        )
        if observed.reported:
            each_step = Counter(node[key] for node in steps.values())
            known = msgspec.structs.replace(
                known,
                desired=len(steps),
                active=each_step[Step.ACTIVE],
                ready=each_step[Step.READY],
                failed=sum(each_step[step] for step in _BEHIND),
            )
            if known.size is not None:
                lacking = {name for name, node in steps.items() if node[key] is not Step.READY}
                pulls = snapshot.pulls.get(key, {})  # also those of nodes that do not count, such as unreachable ones
                part = sum(min(pulls[name].state.fetched, known.size) for name in lacking & pulls.keys())
                done, total = (len(steps) - len(lacking)) * known.size + part, len(steps) * known.size
                moved, whole = moved + done, whole + total
                known = msgspec.structs.replace(known, progress=percent(done, total))
        images.append(known)
    blobs = {
        blob.digest: blob.size for pin in pins.values() for each in (pin.platforms or {}).values() for blob in each
    }
    states = (pull.state for each in snapshot.pulls.values() for pull in each.values())
    failures = tuple(_failures(snapshot)) if behind or snapshot.unavailable else ()
    unresolved = tuple(_unresolved(snapshot)) if snapshot.unresolved or snapshot.images.problems else ()
    return PrefetchCounts(
        nodes=NodeCount(
            desired=len(steps),
            ready=len(ready),
            active=len(active),
            failed=len(failed),
            waiting=len(steps) - len(ready) - len(active) - len(late) - len(failed),
            unavailable=len(snapshot.unavailable),
            late=len(late),
        ),
        images=tuple(images),
        fetched=sum(pull.fetched for pull in states if pull.run == snapshot.rules.run),
        size=None if any(pin.platforms is None for pin in pins.values()) else sum(blobs.values()),
        failures=failures,
        unresolved=unresolved,
        listed=_listed(*unresolved, *failures, room=MAX_NODES - min(len(late), MAX_NODES // 2))
        if unresolved or failures
        else (),
        late=late,
        share=percent(moved, whole) if observed.reported and all(each.size is not None for each in images) else "",
        progress=have(len(ready), len(steps), "all images"),
    )


def _listed(*found: PullFailure, room: int) -> tuple[PullFailure, ...]:
    """Choose at most ``room`` failures, so that as many reasons and then images as possible are listed."""
    return tuple(varied(found, lambda each: (each.reason, each.image), lambda each: each.reason)[:room])


def _unresolved(snapshot: Snapshot) -> Iterator[PullFailure]:
    """Yield a failure for each image that its registry did not resolve, and for each invalid reference."""
    for key, why in snapshot.unresolved.items():
        found = _failure("", key, why.reason, f"No node pulls it: {why.message.removeprefix(f'{key.reference}: ')}")
        yield msgspec.structs.replace(found, message=" ".join((found.message, *snapshot.images.secret_faults)))
    for each in snapshot.images.problems:
        yield PullFailure(reason=each.reason, message=each.message)


def _failures(snapshot: Snapshot) -> Iterator[PullFailure]:
    """Yield failed pulls, then images that nodes do not get, then nodes that cannot be reached, each sorted."""
    places = snapshot.places
    for name, key in sorted(places[Step.FAILED] + places[Step.PAUSED] + places[Step.DUE]):
        pull = snapshot.pulls[key][name]
        found = _failure(name, key, pull.reason or Reason.FAILED, pull.message or "The pull failed")
        last = pull.step is Step.FAILED
        yield msgspec.structs.replace(found, message=f"{found.message} {_LAST}") if last else found
    for name, key in sorted(places[Step.EVICTED]):
        yield _failure(name, key, Reason.EVICTED, EVICTED)
    for name, key in sorted(places[Step.LEFT_OUT]):
        yield _failure(name, key, snapshot.omitted[name][key].value, LEFT_OUT)
    for name in snapshot.unavailable:
        if (why := snapshot.observed.troubles.get(name)) is not None:
            yield PullFailure(name, why.reason, message=why.text)
        else:
            yield _failure(name, ImageKey(""), Reason.NODE_UNAVAILABLE, "The node or its peer cannot be reached")


def _failure(name: str, key: ImageKey, reason: str, message: str) -> PullFailure:
    """An entry of ``status.failures`` for the node ``name`` (empty: for all nodes).

    The advice for ``reason`` follows the message, which is cut if it is too long.
    """
    words = text.clean(message, _MAX_MESSAGE)
    return PullFailure(name, reason, key.reference, advised(words or reason, reasons.of_image(reason)))
