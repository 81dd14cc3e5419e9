"""What an ImagePrefetch's status says: facts, conditions, counts, the report of mode ``Plan``. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pantala_operator import conditions, quantity
from pantala_operator.reconcile.prefetch import reach, rollout, tally, verdict
from pantala_operator.reconcile.prefetch.forecast import Inventory, Work, forecast
from pantala_operator.reconcile.prefetch.questions import secret_problems
from pantala_operator.reconcile.prefetch.resource import Forecast, NodeCount, PrefetchStatus, PullFailure
from pantala_operator.reconcile.prefetch.scene import Scene
from pantala_operator.reconcile.prefetch.verdict import Facts, PrefetchCondition


def standing(scene: Scene) -> PrefetchStatus:
    """The status. What is not known of nodes stays as it was."""
    run = scene.seen.run
    status = scene.prefetch.status if _stays(scene) else _anew(scene)
    return msgspec.structs.replace(status, last_schedule_time=run.scheduled, next_schedule_time=run.upcoming)


def facts(scene: Scene, counts: NodeCount) -> Facts:
    """What the conditions are made of."""
    spec, seen, observed = scene.prefetch.spec, scene.seen, scene.observed
    taken = {child.name for child in observed.children if child.owner != scene.uid} & set(seen.tasks.values())
    return Facts(
        seen=seen,
        counts=counts,
        failures=tuple(tally.failures(seen, scene.now)),
        suspended=spec.suspend,
        planning=spec.planning,
        planned=spec.planning and observed.heard and _told(scene),
        halted=rollout.held_back(scene.works, spec.rollout),
        overdue=scene.overdue,
        heard=observed.heard,
        away=observed.away,
        taken=tuple(sorted(taken)),
        secrets=tuple(secret_problems(scene)),
        unpinned=_unpinned(scene) if spec.retention.pin else None,
    )


def _anew(scene: Scene) -> PrefetchStatus:
    prefetch, seen, heard, now = scene.prefetch, scene.seen, scene.observed.heard, scene.now
    former, generation = prefetch.status, prefetch.metadata.generation
    counts, total = tally.nodes(seen), tally.total(seen.pins)
    found = facts(scene, counts)
    verdicts = verdict.judge(found)
    return PrefetchStatus(
        observed_generation=generation,
        conditions=conditions.merge(former.conditions, verdicts, generation, now),
        images=tuple(tally.images(seen, former.images, counted=heard)),
        nodes=counts if heard else former.nodes,
        summary=f"{counts.ready}/{counts.desired}" if heard else former.summary,
        size=former.size if total is None else quantity.render(total),
        transferred=tally.transferred(seen, former.transferred, now) if heard else former.transferred,
        failures=tally.listed((*tally.unresolved(seen, found.secrets), *found.failures)) if heard else former.failures,
        plan=_forecast(scene) if prefetch.spec.planning and heard else None,
        start_time=seen.run.started,
        completion_time=seen.run.completed,
        last_handled_request=prefetch.requested_at,
    )


def _stays(scene: Scene) -> bool:
    """Whether what was said holds: of a run of ``Once`` that is done, or while nothing is known that says otherwise."""
    run, former = scene.seen.run, scene.prefetch.status
    if run.fresh or run.fault is not None:
        return False
    if scene.resting:
        return True
    return not scene.observed.heard and conditions.is_true(former.conditions, PrefetchCondition.READY)


def _forecast(scene: Scene) -> Forecast:
    seen, cluster = scene.seen, scene.observed.cluster
    works = (
        Work(name, cluster.platform(name), steps, scene.observed.inventories.get(name, Inventory()))
        for name, steps in seen.steps.items()
    )
    return forecast(works, seen.pins, _left_out(scene))


def _told(scene: Scene) -> bool:
    """Whether all that a forecast needs is known: of registries, and of the nodes that can be reached."""
    seen = scene.seen
    known = all(pin.platforms is not None for pin in seen.pins.values())
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
