"""ImagePrefetches, and Tasks with an image: planned together, for what all of them want of supernodes and nodes.

Everything here follows from what is observed but for this: what registries said, the orders of the plan before, and
the status that was planned, as long as the API server has not taken it. An operator that starts anew asks for the first
again, and finds the others in what nodes say and in the status.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from pantala_operator.control.peers import ReconnectGrace
from pantala_operator.control.prefetch_state import Memory
from pantala_operator.control.prefetch_view import Subject, View, subjects_of, view_of
from pantala_operator.control.writer import Writer
from pantala_operator.events import SecretKey
from pantala_operator.plan.headers import Unread
from pantala_operator.plan.prefetch import plan as plans
from pantala_operator.plan.prefetch import taint, wire
from pantala_operator.plan.prefetch import task as tasks
from pantala_operator.plan.prefetch.pins import Resolution
from pantala_operator.plan.prefetch.plan import PrefetchPlan
from pantala_operator.plan.prefetch.pullsecret import docker_config
from pantala_operator.plan.prefetch.questions import Question
from pantala_operator.plan.prefetch.reach import Cluster
from pantala_operator.plan.prefetch.survey import Observed
from pantala_operator.ports import Clock
from pantala_operator.resources.api import Secret, TaskResource
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, PrefetchStatus
from pantala_operator.watch import workloads
from pantala_operator.watch.observation import Observation
from pantala_operator.watch.registries import ImageResolver, ResolveRequest
from pantala_protocol.images import Depth, WantedImage
from pantala_protocol.registry import Resolve

_PATIENCE = 15.0
"""Seconds that the first statement waits for Secrets and workloads that cannot be read."""
_LOOK = 1.0
"""Seconds until it is looked again whether all nodes have spoken that will."""
_PACE = 0.1
"""Seconds between two turns, at least; more where a turn takes long."""


class PrefetchController:
    """Is marked by whatever happens, and plans all when its turn comes."""

    def __init__(
        self,
        observation: Observation,
        clock: Clock,
        writer: Writer,
        resolver: ImageResolver,
        grace: ReconnectGrace,
        home: str,
    ) -> None:
        """``home``: the operator's own namespace."""
        self._known = observation
        self._clock = clock
        self._writer = writer
        self._home = home
        self._memory: dict[str, Memory] = {}
        self._resolver = resolver
        self._grace = grace
        self._dirty = True
        self._not_before = 0.0
        self._looked = 0.0
        self._waits = False
        self._waiting_since: float | None = None
        self.settled = False
        """Whether enough is known of images to say what is wanted, and so what is not."""
        self.images: tuple[WantedImage, ...] = ()
        """All images that nodes shall have."""
        self.survey: tuple[str, ...] = ()
        """All blobs of which they shall say whether they have them."""

    def mark(self) -> None:
        """Something happened."""
        self._dirty = True

    def read(self, key: SecretKey) -> None:
        """A Secret is not what it was: registries that did not answer may do so now."""
        self._dirty = True
        for prefetch in (each.prefetch for each in subjects_of(self._known)):
            memory = self._memory.get(prefetch.metadata.uid)
            if memory is not None and key[0] == prefetch.metadata.namespace and key[1] in memory.secrets:
                memory.resolutions = {image: said for image, said in memory.resolutions.items() if said.digest}

    def answered(self, uid: str, key: ImageKey, said: Resolution) -> None:
        """A registry answered."""
        if uid in self._memory:
            self._memory[uid].resolutions[key] = said
            self._dirty = True

    def knows(self, uid: str) -> bool:
        """Whether it plans the object of that UID."""
        return uid in self._memory

    def pause(self, now: datetime) -> float | None:
        """Seconds until its next turn; ``None``: when something happens."""
        paced = max(self._not_before - self._clock.monotonic(), 0.0)
        if self._dirty:
            return paced
        if self._waits:
            return max(paced, _LOOK - (self._clock.monotonic() - self._looked))
        times = [memory.wake_at for memory in self._memory.values() if memory.wake_at is not None]
        return max((min(times) - now).total_seconds(), paced) if times else None

    def turn(self, now: datetime) -> None:
        """Plan all, if anything happened."""
        pause, began = self.pause(now), self._clock.monotonic()
        if pause is None or pause > 0:
            return
        self._dirty = False
        subjects = {each.prefetch.metadata.uid: each for each in subjects_of(self._known)}
        for uid in self._memory.keys() - subjects.keys():
            self._forget(uid)
        if subjects:
            view = view_of(self._known, heard=self._grace.over)
            for uid, subject in subjects.items():
                self._plan(subject, self._memory.setdefault(uid, Memory()), view, now)
            self._tell_children(subjects, now)
            self._writer.remove_taints(
                taint.removable(each.vote for each in self._memory.values() if each.vote is not None)
            )
        self._gather(subjects)
        took = self._clock.monotonic() - began
        self._looked = self._clock.monotonic()
        self._not_before = self._looked + max(_PACE, 3 * took)
        self._waits = bool(subjects) and not (self.settled and self._grace.over)

    # What is planned.

    def _plan(self, subject: Subject, memory: Memory, view: View, now: datetime) -> None:
        prefetch, task = subject.prefetch, subject.task
        if not all(self._known.around.has(need) for need in workloads.needs(prefetch, self._home)):
            return  # What it follows is not known yet.
        told = prefetch.status
        if memory.status is not None:
            prefetch = msgspec.structs.replace(prefetch, status=memory.status)
        observed = self._observed(prefetch, memory, view, now, alone=task is not None)
        plan = plans.plan(prefetch, observed, now)
        memory.take(plan, observed, now)
        if plan.orders is not None and (images := self._wanted(subject, plan, observed)) is not None:
            memory.images = images
        self._ask(prefetch, memory, plan, observed)
        if task is None:
            self._write(prefetch, told, plan)
        else:
            self._write_task(task, plan, now)

    def _observed(self, prefetch: ImagePrefetch, memory: Memory, view: View, now: datetime, *, alone: bool) -> Observed:
        namespace = prefetch.metadata.namespace
        children = () if alone else tuple(view.children.get(namespace, ()))
        cluster = view.cluster
        if prefetch.spec.target.pod_selector is not None:
            pods = self._known.around.pods.get((workloads.PODS, namespace), ())
            cluster = Cluster(cluster.nodes, cluster.peers, pods)
        said = view.pulls.get(namespace, {})
        return Observed(
            cluster=cluster,
            around=self._known.around.of(prefetch, self._home),
            secrets=view.secrets.get(namespace, {}),
            resolutions=memory.resolutions,
            children=children,
            pulls=said if view.heard else memory.recall(said),
            orders=memory.orders,
            inventories=view.inventories,
            unsurveyed=self._unsurveyed(prefetch, memory, now),
            heard=view.heard,
            prompt=memory.prompt(prefetch, spoken=self._known.supernodes.complete),
            away=view.away,
        )

    def _unsurveyed(self, prefetch: ImagePrefetch, memory: Memory, now: datetime) -> frozenset[str]:
        """Nodes that have not said yet which blobs of a forecast they have."""
        if not prefetch.spec.planning:
            memory.surveyed = None
            return frozenset()
        blobs, reports = memory.survey(now), self._known.supernodes.peers
        if blobs is None:
            return frozenset()
        return frozenset(name for name, report in reports.items() if not wire.answers(report.runtime, blobs))

    # What follows.

    def _wanted(self, subject: Subject, plan: PrefetchPlan, observed: Observed) -> tuple[WantedImage, ...] | None:
        metadata, task = subject.prefetch.metadata, subject.task
        mine = [child for child in observed.children if child.owner == metadata.uid]
        credentials = {key: _credentials(names, observed) for key, names in plan.credentials.items()}
        depth = Depth(task.spec.depth) if task is not None else Depth.RUNTIME
        pin = subject.prefetch.spec.retention.pin
        return wire.wanted(metadata.namespace, plan, mine, observed.cluster, credentials, depth, pin=pin)

    def _ask(self, prefetch: ImagePrefetch, memory: Memory, plan: PrefetchPlan, observed: Observed) -> None:
        for each in plan.questions:
            resolve = _resolve(each, observed)
            if resolve.platforms:
                self._resolver.put(
                    ResolveRequest(prefetch.metadata.uid, each.key, resolve, memory.resolutions.get(each.key))
                )

    def _write(self, prefetch: ImagePrefetch, told: PrefetchStatus, plan: PrefetchPlan) -> None:
        read = msgspec.structs.replace(prefetch, status=told)
        if plan.delete:
            self._writer.delete(read)
            return
        self._writer.write(read, plan.status, plans.notices(told.conditions, plan.status.conditions))
        self._writer.apply_children(plan.family.apply)
        self._writer.delete_children(prefetch.metadata.namespace, plan.family.delete)

    def _write_task(self, task: TaskResource, plan: PrefetchPlan, now: datetime) -> None:
        if plan.delete:
            self._writer.delete(task)
            return
        status = tasks.status_alone(task, plan.status, now)
        self._writer.write(task, status, plans.notices(task.status.conditions, status.conditions))

    def _tell_children(self, subjects: dict[str, Subject], now: datetime) -> None:
        """The Tasks of ImagePrefetches say of their image what their owner says of all."""
        for each in self._known.tasks.items.values():
            owner = tasks.owner(each) if each.spec.is_image else ""
            told = self._memory[owner].status if owner in subjects else None
            if told is not None:
                self._writer.write(each, tasks.status_within(each, told, now))

    def _forget(self, uid: str) -> None:
        del self._memory[uid]
        self._writer.forget(uid)
        self._resolver.forget(uid)

    def _gather(self, subjects: dict[str, Subject]) -> None:
        """Put together what all want."""
        known = [self._memory[uid] for uid in sorted(subjects) if uid in self._memory]
        self.images = tuple(image for memory in known for image in memory.images or ())
        self.survey = tuple(sorted({blob for memory in known if memory.surveyed for blob in memory.surveyed[0]}))
        self._known.pull_secrets = frozenset(
            (subject.prefetch.metadata.namespace, name)
            for uid, subject in subjects.items()
            for name in self._memory[uid].secrets
        )
        self._settle(known)

    def _settle(self, known: list[Memory]) -> None:
        """A statement without an image that nodes have would let it go: the first one waits until all is known."""
        read, over = self._known.secrets.keys(), self._grace.over
        self.settled |= all(memory.images is not None for memory in known) and self._known.pull_secrets <= read
        if self.settled or not over:
            return
        moment = self._clock.monotonic()
        self._waiting_since = moment if self._waiting_since is None else self._waiting_since
        self.settled = moment - self._waiting_since >= _PATIENCE


def _credentials(names: Iterable[str], observed: Observed) -> tuple[str, ...]:
    """What can be used of these Secrets; what is wrong with the others, the conditions say."""
    readings = (observed.secrets.get(name, Unread()) for name in names)
    found = (docker_config(reading) for reading in readings if isinstance(reading, Secret))
    return tuple(each for each in found if isinstance(each, str))


def _resolve(question: Question, observed: Observed) -> Resolve:
    return Resolve(question.key.reference, question.platforms, _credentials(question.secrets, observed))
