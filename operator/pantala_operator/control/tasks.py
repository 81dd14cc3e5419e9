"""Plans the Tasks that distribute a file: the task of each in the statements, and its status."""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import structs

from pantala_operator.control.guard import PlanGuard
from pantala_operator.control.writer import CATCHING_UP, SETTLING, Writer
from pantala_operator.plan import statement, targets, task, task_quota
from pantala_operator.plan.nodes import TaskNodes
from pantala_operator.plan.paths import PublishedPaths
from pantala_operator.plan.statement import PathClaim
from pantala_operator.plan.targets import Targets
from pantala_operator.plan.task import ObservedTask
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.status import Obstacle
from pantala_operator.supernodes.view import TaskView
from pantala_operator.watch.observation import Observation
from pantala_process.tracing.spans import context_of
from pantala_protocol.rules.quotas import Quotas
from pantala_protocol.statement import WantedTask

V = TypeVar("V")


@lru_cache(maxsize=128)
def shared(names: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names as a tuple and as a set. Tasks with the same nodes share both, which take 40 KiB for 1,000 nodes."""
    return names, frozenset(names)


class TargetChoice:
    """The nodes of each Task at one moment. Most Tasks want the same nodes, so these nodes are chosen once."""

    def __init__(self, observation: Observation) -> None:
        """``observation`` must not change while this object is used."""
        self._observation = observation
        self._peers = observation.peer_states()
        self._marked = targets.marked(observation.nodes.items, self._peers)
        self._chosen: dict[tuple[bytes, str, frozenset[str]], Targets] = {}
        self._views: dict[str, TaskView] = {}
        self._joined: list[tuple[datetime, str]] | None = None
        """When each node joined the cluster, the newest first. ``None``: not sorted yet."""

    def view(self, each: TaskResource) -> TaskView:
        """What the supernodes report about one Task."""
        uid = each.metadata.uid
        if uid not in self._views:
            task_id = statement.task_id_of(each, statement.origin(each, self._observation.secret_of(each)))
            self._views[uid] = self._observation.supernodes.task_view(uid, task_id, each.attempt)
        return self._views[uid]

    def nodes(self, each: TaskResource) -> Targets:
        if not each.spec.to_peers:
            return Targets()
        target, uid = each.spec.target, each.metadata.uid
        holders = self.view(each).holders
        if not target.is_limited:  # The choice depends on the holders only among these nodes.
            holders = holders & self._marked
        key = (msgspec.json.encode(target), uid if target.is_limited else "", frozenset(holders))
        if key not in self._chosen:
            chosen = targets.choose(target, uid, self._observation.nodes.items, self._peers, key[2])
            self._chosen[key] = replace(chosen, wanted=shared(chosen.wanted)[0])
        return self._chosen[key]

    def young(self, each: TaskResource, now: datetime) -> dict[str, datetime]:
        """The nodes that joined less than ``spec.timeoutSecondsPerNode`` ago, each with the end of that time."""
        if each.spec.timeout_seconds_per_node is None:
            return {}
        if self._joined is None:
            times = ((node.metadata.creation_timestamp, name) for name, node in self._observation.nodes.items.items())
            self._joined = sorted(((at, name) for at, name in times if at is not None), reverse=True)
        time = timedelta(seconds=each.spec.timeout_seconds_per_node)
        return {name: at + time for at, name in takewhile(lambda joined: now - joined[0] < time, self._joined)}


class StatedTask(NamedTuple):
    """A task, and the supernodes whose statements contain it."""

    age: tuple[datetime, str]
    wanted: WantedTask
    supernodes: frozenset[str]


class TaskController:
    """Plans the marked Tasks, and remembers which tasks each supernode should have."""

    def __init__(
        self,
        observation: Observation,
        writer: Writer,
        guard: PlanGuard,
        paths: PublishedPaths,
        quotas: Quotas,
        *,
        traced: bool = False,
    ) -> None:
        """``traced``: statements carry the context of each Task's trace."""
        self._observation = observation
        self._guard = guard
        self._traced = traced
        self._writer = writer
        self._paths = paths
        self._quotas = quotas
        self._excess: dict[str, Obstacle] = {}
        self._stated: dict[str, StatedTask] = {}
        self._claims: dict[str, PathClaim] = {}
        self._by_path: dict[str, dict[str, PathClaim]] = {}
        self._wake: dict[str, datetime] = {}
        self._by_supernode: dict[str, tuple[WantedTask, ...]] = {}

    @property
    def wake_at(self) -> datetime | None:
        """The earliest time at which a Task must be planned again without an event."""
        return min(self._wake.values(), default=None)

    def wanted_from(self, supernode: str) -> tuple[WantedTask, ...]:
        """The tasks that one supernode should have, the oldest first. The same object as before if no task changed."""
        if supernode not in self._by_supernode:
            oldest = sorted(self._stated.values(), key=lambda each: each.age)
            self._by_supernode[supernode] = tuple(each.wanted for each in oldest if supernode in each.supernodes)
        return self._by_supernode[supernode]

    def turn(self, tasks: Mapping[str, TaskResource], marked: Set[str], now: datetime, *, everything: bool) -> None:
        """Plan the ``marked`` Tasks (UIDs), and the Tasks that depend on them."""
        dirty = set(tasks) if everything else set(marked)
        dirty |= {uid for uid, at in self._wake.items() if at <= now}
        for uid in (self._stated.keys() | self._claims.keys() | self._wake.keys() | marked) - tasks.keys():
            dirty |= self._forget(uid)
        former, self._excess = self._excess, task_quota.excess(tasks.values(), self._quotas)
        dirty |= {uid for uid in former.keys() | self._excess.keys() if former.get(uid) != self._excess.get(uid)}
        dirty &= tasks.keys()
        choice = TargetChoice(self._observation)
        for uid in list(dirty):
            with self._guard.planning(tasks[uid], now):
                dirty |= self._claim(tasks[uid], choice, now) & tasks.keys()
        for uid in dirty:
            with self._guard.planning(tasks[uid], now):
                self._plan(tasks[uid], choice, now)

    def _claim(self, each: TaskResource, choice: TargetChoice, now: datetime) -> set[str]:
        """Note the path that a Task claims. Returns the Tasks whose plan may change by this claim."""
        metadata = each.metadata
        path, content = self._paths.of(each), choice.view(each).task_id
        former = self._claims.get(metadata.uid)
        claim: PathClaim | None = None
        if isinstance(path, str) and path and content:
            created = metadata.creation_timestamp or now
            nodes = shared(choice.nodes(each).wanted)[1]
            claim = PathClaim(metadata.uid, metadata.key, path, content, nodes, created)
        if claim == former:
            return set()
        concerned = self._release(metadata.uid)
        if claim is not None:
            self._claims[metadata.uid] = claim
            self._by_path.setdefault(claim.path, {})[metadata.uid] = claim
            concerned |= self._by_path[claim.path].keys()
        return concerned

    def _release(self, uid: str) -> set[str]:
        """Drop a Task's claim. Returns the other Tasks that claim its path."""
        former = self._claims.pop(uid, None)
        if former is None:
            return set()
        rivals = self._by_path[former.path]
        del rivals[uid]
        if not rivals:
            del self._by_path[former.path]
        return set(rivals)

    def _forget(self, uid: str) -> set[str]:
        self._by_supernode.clear()
        self._stated.pop(uid, None)
        self._wake.pop(uid, None)
        self._observation.late.pop(uid, None)
        self._observation.supernodes.forget(uid)
        self._writer.forget(uid)
        return self._release(uid)

    def _plan(self, each: TaskResource, choice: TargetChoice, now: datetime) -> None:
        uid = each.metadata.uid
        self._wake.pop(uid, None)
        view = choice.view(each)
        observed = self._observed(each, choice, now)
        plan = task.plan(each, observed, self._paths, now)
        wanted, stated = plan.wanted, None
        if wanted is not None:
            if self._traced:
                wanted = structs.replace(wanted, trace=context_of(uid, each.attempt))
            stated = StatedTask(task_quota.age(each.metadata), wanted, view.stated)
        if self._stated.get(uid) != stated:
            self._by_supernode.clear()
            _keep(self._stated, uid, stated)
        _keep(self._wake, uid, plan.wake_at)
        late = Counter(trouble.reason for trouble in plan.nodes.late.values())
        _keep(self._observation.late, uid, late or None)
        new = bool(each.status.late) and not self._observation.progress.known
        settling = CATCHING_UP if new else SETTLING if plan.settling else 0.0
        self._writer.write(each, plan.status, announce=True, settling=settling, expired=plan.delete)

    def nodes(self, each: TaskResource, now: datetime) -> TaskNodes:
        """All nodes of a Task, for views that show each node."""
        observed = self._observed(each, TargetChoice(self._observation), now)
        zones = self._observation.zones
        return task.plan(each, replace(observed, zones=zones), self._paths, now).nodes

    def _observed(self, each: TaskResource, choice: TargetChoice, now: datetime) -> ObservedTask:
        claim, view = self._claims.get(each.metadata.uid), choice.view(each)
        return ObservedTask(
            secret=self._observation.secret_of(each),
            targets=choice.nodes(each),
            owner=statement.winner(claim, self._by_path[claim.path]) if claim is not None else None,
            excess=self._excess.get(each.metadata.uid),
            cut=self._observation.cut_of(each.metadata.uid),
            report=view.report,
            holders=view.holders,
            reported=self._observation.supernodes.complete,
            away=view.away,
            downloads=self._observation.progress.downloads(view.task_id),
            young=choice.young(each, now),
        )


def _keep(values: dict[str, V], uid: str, value: V | None) -> None:
    if value is None:
        values.pop(uid, None)
    else:
        values[uid] = value
