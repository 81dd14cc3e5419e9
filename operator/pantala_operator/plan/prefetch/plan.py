"""The plan of one ImagePrefetch: what nodes shall do, what registries are asked, what its status says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pantala_operator.plan.prefetch import children, pull, run, taint, tally
from pantala_operator.plan.prefetch.children import Family
from pantala_operator.plan.prefetch.orders import orders
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pull import Step
from pantala_operator.plan.prefetch.questions import Question, moments, questions, secret_names
from pantala_operator.plan.prefetch.scene import Scene, draw
from pantala_operator.plan.prefetch.standing import facts, standing
from pantala_operator.plan.prefetch.survey import Observed, Orders
from pantala_operator.plan.prefetch.taint import Vote
from pantala_operator.plan.prefetch.verdict import PrefetchCondition
from pantala_operator.plan.task import Notice
from pantala_operator.plan.verdict import PROGRESSING
from pantala_operator.resources import conditions
from pantala_operator.resources.conditions import Condition
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, PrefetchStatus

_TOLD = {
    PrefetchCondition.READY: False,
    PrefetchCondition.STALLED: True,
    PrefetchCondition.RECONCILING: True,
    PrefetchCondition.DRIFTED: True,
    PrefetchCondition.EVICTED: True,
}
"""Conditions that an onlooker is told of when they become True, and whether as a warning."""


@dataclass(frozen=True, slots=True)
class PrefetchPlan:
    """What follows from an ImagePrefetch and what was observed."""

    status: PrefetchStatus
    family: Family
    """Tasks to apply and to delete."""
    orders: Orders | None
    """What nodes shall do, in full; ``None``: not known yet, so leave what was said."""
    pins: Mapping[ImageKey, Pin] = field(default_factory=dict)
    """The images and their digests."""
    credentials: Mapping[ImageKey, tuple[str, ...]] = field(default_factory=dict)
    """The names of the Secrets for each image."""
    questions: tuple[Question, ...] = ()
    secrets: tuple[str, ...] = ()
    """Names of the Secrets to be read."""
    vote: Vote | None = None
    """On the startup taint; see :func:`pantala_operator.plan.prefetch.taint.removable`."""
    notices: tuple[Notice, ...] = ()
    delete: bool = False
    """Its time to live is over."""
    wake_at: datetime | None = None
    """When the plan changes though nothing else does."""


def plan(prefetch: ImagePrefetch, observed: Observed, now: datetime) -> PrefetchPlan:
    """Plan ``prefetch`` at ``now`` (UTC, whole seconds)."""
    scene = draw(prefetch, observed, now)
    status = standing(scene)
    expiry = run.expiry(prefetch, _finished(scene, status))
    vote, until = _vote(scene)
    times = (expiry, until, scene.seen.run.upcoming, run.deadline(prefetch, scene.seen.run), *_times(scene))
    return PrefetchPlan(
        status=status,
        family=_family(scene),
        orders=orders(scene) if scene.orderly else None,
        pins=scene.seen.pins,
        credentials=scene.seen.images.secrets,
        questions=tuple(questions(scene)),
        secrets=secret_names(scene),
        vote=vote,
        notices=tuple(notices(prefetch.status.conditions, status.conditions)),
        delete=expiry is not None and now >= expiry,
        wake_at=min((at for at in times if at is not None and at > now), default=None),
    )


def _family(scene: Scene) -> Family:
    """The Tasks. In mode ``Plan``, before the first run and after a run of ``Once`` they are left as they are."""
    if scene.prefetch.spec.planning or scene.seen.run.started is None or scene.resting:
        return Family(scene.seen.tasks)
    everywhere = scene.seen.everywhere if scene.observed.heard else frozenset()
    secrets = scene.seen.images.secrets
    return children.family(scene.prefetch, scene.seen.pins.values(), secrets, scene.observed.children, everywhere)


def _vote(scene: Scene) -> tuple[Vote | None, datetime | None]:
    startup = scene.prefetch.spec.startup_taint
    if startup is None or scene.prefetch.spec.planning:
        return None, None
    ready = scene.seen.ready if scene.observed.heard else frozenset()
    return taint.vote(startup, scene.seen.targets.wanted, scene.observed.cluster.nodes, ready, scene.now)


def _times(scene: Scene) -> Iterator[datetime | None]:
    """When pulls time out or are tried again, and when registries are asked."""
    if not scene.holding:
        for said in scene.seen.pulls.values():
            yield from (pull.changes_at(each, scene.seen.policy, scene.now) for each in said.values())
    yield from (at for _, at in moments(scene))


def _finished(scene: Scene, status: PrefetchStatus) -> datetime | None:
    """Since when nothing is left to do: all is done, or what is left failed for good."""
    if conditions.is_true(status.conditions, PrefetchCondition.READY):
        return status.completion_time
    stalled = conditions.find(status.conditions, PrefetchCondition.STALLED)
    if stalled is None or stalled.status != "True" or scene.seen.at(Step.ACTIVE, Step.PAUSED):
        return None
    obstacle = facts(scene, tally.nodes(scene.seen)).obstacle
    return stalled.last_transition_time if obstacle is not None and obstacle.final else None


def notices(former: tuple[Condition, ...], latter: tuple[Condition, ...]) -> Iterator[Notice]:
    """What an onlooker wants to be told: done, stuck, moved, or a failure that may pass."""
    for kind, warning in _TOLD.items():
        old, new = conditions.find(former, kind), conditions.find(latter, kind)
        if new is None or new.status != "True" or new.reason == PROGRESSING:
            continue
        if old is None or (old.status, old.reason) != (new.status, new.reason):
            yield Notice(warning, new.reason, new.message)
