"""What a status counts and lists: only what nodes have reported. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from pantala_operator.plan.prefetch import reach, reasons
from pantala_operator.plan.prefetch.forecast import size
from pantala_operator.plan.prefetch.pins import Blob, Pin
from pantala_operator.plan.prefetch.pull import Step, judged
from pantala_operator.plan.prefetch.reasons import ImageReason
from pantala_operator.plan.prefetch.survey import Survey
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.prefetch import ImageKey, ImageStatus, NodeCount, PrefetchBytes, PullFailure

MAX_FAILURES: Final = 10
"""Failures that a status names."""
_MAX_MESSAGE: Final = 512
_LAST = "It is not tried again in this run; pantala.dev/requested-at starts another."
_BARRED = {
    Step.EVICTED: "The runtime lost the image twice within an hour",
    Step.LEFT_OUT: "The node does not get the image",
}


def nodes(seen: Survey) -> NodeCount:
    """How many nodes are how far. Each one that can be reached is in exactly one of the last four."""
    active = {name for name, steps in seen.steps.items() if Step.ACTIVE in steps.values()}
    failed = {name for name, steps in seen.steps.items() if any(_failed(step) for step in steps.values())} - active
    ready = seen.ready - active - failed
    return NodeCount(
        desired=len(seen.steps),
        ready=len(ready),
        active=len(active),
        failed=len(failed),
        waiting=len(seen.steps) - len(ready) - len(active) - len(failed),
        unavailable=len(reach.unavailable(seen.targets)),
    )


def images(
    seen: Survey, tasks: Mapping[ImageKey, str], former: Iterable[ImageStatus], *, counted: bool
) -> Iterator[ImageStatus]:
    """The status of each image, with its Task's name in ``tasks``.

    Without ``counted`` nothing is known of the nodes, and counts stay as they were.
    """
    before = {each.key: each for each in former}
    for key, pin in seen.pins.items():
        old = before.get(key)
        same = old if old is not None and old.digest == pin.digest else None
        steps = [node[key] for node in seen.steps.values()]
        counts = (len(steps), steps.count(Step.ACTIVE), steps.count(Step.READY), sum(map(_failed, steps)))
        desired, active, ready, failed = (
            counts if counted else (same.desired, same.active, same.ready, same.failed) if same else (None,) * 4
        )
        yield ImageStatus(
            image=key.reference,
            platform=key.platform,
            digest=pin.digest,
            latest_digest=pin.latest,
            resolved_time=pin.resolved,
            task=tasks.get(key, ""),
            size=_largest(pin) if pin.platforms else same.size if same is not None else None,
            desired=desired,
            active=active,
            ready=ready,
            failed=failed,
        )


def total(pins: Mapping[ImageKey, Pin]) -> int | None:
    """Bytes of all images for all platforms, each blob once; ``None``: not known of some."""
    known: list[Blob] = []
    for pin in pins.values():
        if pin.platforms is None:
            return None
        known += [blob for blobs in pin.platforms.values() for blob in blobs]
    return size(known)


def transferred(seen: Survey, former: PrefetchBytes | None, now: datetime) -> PrefetchBytes:
    """Bytes of this run; the rate is the average until now, or until it was done."""
    fetched = sum(
        pull.fetched for pulls in seen.pulls.values() for pull in pulls.values() if pull.run == seen.policy.run
    )
    until = seen.run.completed or now
    seconds = max(int((until - seen.policy.started).total_seconds()), 1)
    known = total(seen.pins)
    whole = known if known is not None else former.total if former is not None else 0
    return PrefetchBytes(whole, fetched, fetched // seconds)


def listed(failures: Iterable[PullFailure]) -> tuple[PullFailure, ...]:
    """At most 10 of them: each reason, then each image of a reason, at least once as long as there is room."""
    causes, kinds = Counter[tuple[str, str]](), Counter[str]()
    ranked = []
    for each in failures:
        cause = (each.reason, each.image)
        ranked.append((causes[cause], kinds[each.reason], each))
        causes[cause] += 1
        kinds[each.reason] += 1
    ranked.sort(key=lambda rank: rank[:2])
    return tuple(each for *_, each in ranked[:MAX_FAILURES])


def unresolved(seen: Survey, secrets: Iterable[Problem]) -> Iterator[PullFailure]:
    """What no node pulls: the registry does not give it, or it could not be told what is meant.

    ``secrets``: what is wrong with the credentials that the registry may have missed.
    """
    notes = "".join(f" {each.message}" for each in secrets)
    for key, why in seen.unresolved.items():
        found = failure("", key, why.reason, f"No node pulls it: {why.message.removeprefix(f'{key.reference}: ')}")
        yield msgspec.structs.replace(found, message=found.message + notes)
    for each in seen.images.problems:
        yield PullFailure(reason=each.reason, message=each.message)


def failures(seen: Survey, now: datetime) -> Iterator[PullFailure]:
    """What keeps single nodes from being ready, sorted: failed pulls, what nodes do not get, nodes away."""
    for name, key in sorted(seen.at(Step.FAILED, Step.PAUSED, Step.DUE)):
        pull = judged(seen.pulls[key][name], seen.policy, now)
        found = failure(name, key, pull.reason or ImageReason.FAILED.value, pull.message or "The pull failed")
        last = seen.steps[name][key] is Step.FAILED
        yield msgspec.structs.replace(found, message=f"{found.message} {_LAST}") if last else found
    for name, key in sorted(seen.at(Step.EVICTED)):
        yield failure(name, key, ImageReason.EVICTED.value, _BARRED[Step.EVICTED])
    for name, key in sorted(seen.at(Step.LEFT_OUT)):
        yield failure(name, key, seen.omitted[name][key].value, _BARRED[Step.LEFT_OUT])
    for name in reach.unavailable(seen.targets):
        message = reasons.advise("The node or its peer cannot be reached", ImageReason.NODE_UNAVAILABLE)
        yield PullFailure(name, ImageReason.NODE_UNAVAILABLE.value, message=message)


def failure(name: str, key: ImageKey, reason: str, message: str) -> PullFailure:
    """One entry of the list, with what to do."""
    words = message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"
    return PullFailure(name, reason, key.reference, reasons.advise(words, reason))


def _failed(step: Step) -> bool:
    return step.failing or step in (Step.EVICTED, Step.LEFT_OUT)


def _largest(pin: Pin) -> int:
    return max((size(blobs) for blobs in (pin.platforms or {}).values()), default=0)
