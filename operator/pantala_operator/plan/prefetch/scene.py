"""What the parts of a plan share: the resource, what was observed, and the pulls that begin now. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pantala_operator.plan import problem
from pantala_operator.plan.prefetch import pull, rollout
from pantala_operator.plan.prefetch import run as runs
from pantala_operator.plan.prefetch.pull import Step
from pantala_operator.plan.prefetch.rollout import NodeWork, Starts
from pantala_operator.plan.prefetch.survey import Observed, Survey, survey
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch
from pantala_protocol.reasons import Reason


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment of one ImagePrefetch."""

    prefetch: ImagePrefetch
    observed: Observed
    seen: Survey
    now: datetime
    overdue: Problem | None = None
    starts: Starts = field(default_factory=dict)
    """The pulls that begin with this plan; ``seen`` counts them as active."""

    @property
    def uid(self) -> str:
        """Of the ImagePrefetch."""
        return self.prefetch.metadata.uid

    @property
    def done(self) -> bool:
        """Whether nothing is to be done until another run."""
        return self.seen.run.completed is not None and not self.prefetch.spec.continuous

    @property
    def resting(self) -> bool:
        """Whether a run of ``Once`` was done before this plan, so that all stays as it is."""
        was_done = self.prefetch.status.completion_time is not None
        return self.done and was_done and not self.seen.run.fresh

    @property
    def stopped(self) -> bool:
        """Whether somebody, or the deadline, wants pulls to end."""
        return self.prefetch.spec.suspend or self.prefetch.spec.planning or self.overdue is not None

    @property
    def holding(self) -> bool:
        """Whether nothing is begun, and pulls that go on are cut."""
        run = self.seen.run
        return self.stopped or self.done or run.started is None or run.fault is not None

    @property
    def orderly(self) -> bool:
        """Whether enough is known to give orders, or to take them out.

        To take them out it takes no word of a node that pulls.
        """
        return self.observed.heard or (self.stopped and self.observed.prompt)

    @property
    def works(self) -> list[NodeWork]:
        """The nodes as the rollout sees them: an image without a digest of this run, or a Task, cannot begin."""
        taken = {child.name for child in self.observed.children if child.owner != self.uid}
        tasks = self.seen.tasks
        blocked = {key for key in self.seen.pins if self.seen.lacks(key) or tasks.get(key) in taken}
        return [
            NodeWork(name, _possible(steps, blocked), self.observed.cluster.labels(name), self._retries(name, steps))
            for name, steps in self.seen.steps.items()
        ]

    def _retries(self, name: str, steps: Mapping[ImageKey, Step]) -> bool:
        said = (self.seen.pulls[key].get(name) for key, step in steps.items() if step is Step.ACTIVE)
        return any(pull.retries(each, self.seen.policy) for each in said if each is not None)

    def platforms(self, key: ImageKey) -> frozenset[str]:
        """The platforms that an image is needed for."""
        return frozenset({key.platform}) if key.platform else self.seen.platforms


def draw(prefetch: ImagePrefetch, observed: Observed, now: datetime) -> Scene:
    """The scene at ``now``, with the pulls that begin."""
    run = runs.current(prefetch, now)
    seen = survey(prefetch, observed, run, now)
    if seen.complete and observed.heard and not prefetch.spec.planning:
        seen = replace(seen, run=run.completing(now))
    until = runs.deadline(prefetch, seen.run)
    overdue = _overdue(prefetch) if until is not None and now >= until else None
    return _begin(Scene(prefetch, observed, seen, now, overdue))


def _begin(scene: Scene) -> Scene:
    """Choose the pulls that begin, and count them as begun."""
    if scene.holding or not scene.observed.heard:
        return scene
    starts = rollout.starts(scene.works, scene.prefetch.spec.rollout, scene.uid)
    steps = {
        name: {key: Step.ACTIVE if key in starts.get(name, ()) else step for key, step in node.items()}
        for name, node in scene.seen.steps.items()
    }
    return replace(scene, seen=replace(scene.seen, steps=steps), starts=starts)


def _possible(steps: Mapping[ImageKey, Step], blocked: set[ImageKey]) -> dict[ImageKey, Step]:
    return {key: step for key, step in steps.items() if key not in blocked or not step.startable}


def _overdue(prefetch: ImagePrefetch) -> Problem:
    what = f"The run is not done after {prefetch.spec.active_deadline_seconds} s"
    return problem.of(Reason.DEADLINE_EXCEEDED, what)
