"""What an ImagePrefetch's status says: facts, conditions, counts, the report of mode ``Plan``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from pantala_operator.plan.prefetch import reach, rollout, tally, verdict
from pantala_operator.plan.prefetch.forecast import Inventory, Work, forecast
from pantala_operator.plan.prefetch.questions import secret_problems
from pantala_operator.plan.prefetch.scene import Scene
from pantala_operator.plan.prefetch.verdict import PLANNED, Facts, PrefetchCondition
from pantala_operator.resources import conditions, quantity
from pantala_operator.resources.prefetch import Forecast, ImageKey, NodeCount, PrefetchStatus, PullFailure


def standing(scene: Scene) -> PrefetchStatus:
    """The status. What is not known of nodes stays as it was."""
    run = scene.seen.run
    status = scene.prefetch.status if _stays(scene) else _anew(scene)
    return msgspec.structs.replace(status, last_schedule_time=run.scheduled, next_schedule_time=run.upcoming)


def facts(scene: Scene, counts: NodeCount) -> Facts:
    """What the conditions are made of."""
    spec, seen, observed = scene.prefetch.spec, scene.seen, scene.observed
    taken = {child.name for child in observed.children if child.owner != scene.uid} & set(seen.tasks.values())
    planned = spec.planning and observed.heard and _told(scene)
    return Facts(
        seen=seen,
        counts=counts,
        failures=tuple(tally.failures(seen, scene.now)),
        suspended=spec.suspend,
        planning=spec.planning,
        planned=planned,
        halted=rollout.held_back(scene.works, spec.rollout),
        overdue=None if planned else scene.overdue,
        heard=observed.heard,
        away=observed.away,
        taken=tuple(sorted(taken)),
        secrets=tuple(secret_problems(scene)),
        unpinned=_unpinned(scene) if spec.retention.pin else None,
    )


def _tasks(scene: Scene) -> Mapping[ImageKey, str]:
    """The images' Tasks. A plan makes none: there are those that were made before."""
    if not scene.prefetch.spec.planning:
        return scene.seen.tasks
    made = {child.name for child in scene.observed.children if child.owner == scene.uid}
    return {key: name for key, name in scene.seen.tasks.items() if name in made}


def _anew(scene: Scene) -> PrefetchStatus:
    prefetch, seen, heard, now = scene.prefetch, scene.seen, scene.observed.heard, scene.now
    former, generation = prefetch.status, prefetch.metadata.generation
    counts, total = tally.nodes(seen), tally.total(seen.pins)
    found = facts(scene, counts)
    verdicts = verdict.judge(found)
    return PrefetchStatus(
        observed_generation=generation,
        conditions=conditions.merge(former.conditions, verdicts, generation, now),
        images=tuple(tally.images(seen, _tasks(scene), former.images, counted=heard)),
        nodes=counts if heard else former.nodes,
        summary=f"{counts.ready}/{counts.desired}" if heard else former.summary,
        size=former.size if total is None else quantity.render(total),
        transferred=tally.transferred(seen, former.transferred, now) if heard else former.transferred,
        failures=tally.listed((*tally.unresolved(seen, found.secrets), *found.failures)) if heard else former.failures,
        plan=_report(scene) if prefetch.spec.planning else None,
        start_time=seen.run.started,
        completion_time=seen.run.completed,
        last_handled_request=prefetch.requested_at,
    )


def _stays(scene: Scene) -> bool:
    """Whether what was said holds: of a run of ``Once`` that is done, or while nothing is known that says otherwise."""
    run, former = scene.seen.run, scene.prefetch.status
    if run.fresh or run.fault is not None:
        return False
    if scene.resting or _still_planned(scene):
        return True
    return not scene.observed.heard and conditions.is_true(former.conditions, PrefetchCondition.READY)


def _still_planned(scene: Scene) -> bool:
    """Whether a plan that was whole is not known to be another one, as after a restart."""
    ready = conditions.find(scene.prefetch.status.conditions, PrefetchCondition.READY)
    was_planned = scene.prefetch.spec.planning and ready is not None and ready.reason == PLANNED
    return was_planned and not scene.seen.unresolved and not (scene.observed.heard and _told(scene))


def _report(scene: Scene) -> Forecast | None:
    """Made when registries and nodes have answered, if only to say no; before, that of this run stays as it is."""
    if scene.observed.heard and _answered(scene):
        return _forecast(scene)
    return None if scene.seen.run.fresh else scene.prefetch.status.plan


def _forecast(scene: Scene) -> Forecast:
    seen, cluster = scene.seen, scene.observed.cluster
    works = (
        Work(name, cluster.platform(name), steps, scene.observed.inventories.get(name, Inventory()))
        for name, steps in seen.steps.items()
    )
    return forecast(works, seen.pins, _left_out(scene))


def _told(scene: Scene) -> bool:
    """Whether all that a forecast needs is known: of registries, and of the nodes that can be reached."""
    return all(pin.platforms is not None for pin in scene.seen.pins.values()) and _answered(scene)


def _answered(scene: Scene) -> bool:
    seen = scene.seen
    known = all(pin.platforms is not None or pin.problem is not None for pin in seen.pins.values())
    return known and scene.observed.unsurveyed.isdisjoint(seen.steps)


def _left_out(scene: Scene) -> Iterator[PullFailure]:
    seen = scene.seen
    yield from reach.left_out(scene.prefetch.spec.target, scene.observed.cluster, seen.targets)
    for name, omitted in seen.omitted.items():
        for key, reason in omitted.items():
            yield tally.failure(name, key, reason.value, "The node does not get the image")


def _unpinned(scene: Scene) -> tuple[str, ...]:
    told = scene.observed.inventories
    return tuple(name for name in scene.seen.steps if name in told and told[name].pins is False)
