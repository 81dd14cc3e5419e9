"""Plans all ImagePrefetches, and the Tasks with an image that no ImagePrefetch owns, for one common statement.

Only three things are kept between plans: registries' answers, the orders, and a status that the API server does not
have yet. After a restart the operator asks the registries again. It finds all other facts in nodes' reports and in the
status.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from pantala_operator.control.guard import PlanGuard
from pantala_operator.control.peers import ReconnectGrace
from pantala_operator.control.prefetch_state import PrefetchState, has_looked
from pantala_operator.control.prefetch_view import SharedView
from pantala_operator.control.writer import CATCHING_UP, Writer
from pantala_operator.events import SecretKey
from pantala_operator.plan import image_task, startup_taint, task_quota
from pantala_operator.plan.nodes import SourceBytes, Trouble
from pantala_operator.plan.prefetch import plan as plans
from pantala_operator.plan.prefetch.inputs import ObservedImages, RegistryAnswer
from pantala_operator.plan.prefetch.plan import PrefetchPlan
from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_operator.plan.startup_taint import NodeRights
from pantala_operator.ports import Clock
from pantala_operator.resources.api import TaskResource, TaskStatus
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, PrefetchStatus
from pantala_operator.watch.observation import Observation
from pantala_operator.watch.registries import ImageResolver, ResolveRequest
from pantala_protocol import task_id
from pantala_protocol.images import WantedImage

_PATIENCE = 15.0
"""Seconds that the first statement waits for Secrets and workloads that cannot be read, and for registries."""
_ECHO = timedelta(seconds=30)
"""After the end of a Task, the bytes of its image no longer change."""
_LOOK = 1.0
"""Seconds between two checks whether all nodes have reported."""
_PACE = 0.1
"""The least seconds between two turns. The pause is longer after a long turn."""

Planned = ImagePrefetch | TaskResource


class PrefetchController:
    """Plans all ImagePrefetches and Tasks with images, at each turn. Every event requests a turn."""

    def __init__(
        self,
        observation: Observation,
        clock: Clock,
        writer: Writer,
        guard: PlanGuard,
        resolver: ImageResolver,
        grace: ReconnectGrace,
        rights: NodeRights,
    ) -> None:
        self._known = observation
        self._guard = guard
        self._clock = clock
        self._writer = writer
        self._states: dict[str, PrefetchState[Any]] = {}
        self._resolver = resolver
        self._grace = grace
        self._rights = rights
        self._dirty = True
        self._not_before = 0.0
        self._looked = 0.0
        self._waits = False
        self._waiting_since: float | None = None
        self.settled = False
        """True once the first statement may be sent. Nodes remove each image that a statement does not name."""
        self.images: tuple[WantedImage, ...] = ()
        """The images that nodes must have, with their orders, as far as they are known."""
        self.unchanged: tuple[str, ...] = ()
        """The keys of wanted images whose orders are not known, for example because a registry does not answer."""
        self.survey: tuple[str, ...] = ()
        """The digests of all blobs for which each node reports whether it has them."""

    def mark(self) -> None:
        """Request a plan at the next turn."""
        self._dirty = True

    def read(self, key: SecretKey) -> None:
        """Take a changed Secret, and ask again for the images that a registry refused without it."""
        self._dirty = True
        for each in _planned(self._known):
            state = self._states.get(each.metadata.uid)
            if state is not None and key[0] == each.metadata.namespace and key[1] in state.secrets:
                self._resolver.forget(each.metadata.uid)  # a question under way has the former credentials
                state.ask_again()

    def ask_again(self) -> None:
        """Ask again for the images without a digest, because the SourcePolicies changed."""
        self._dirty = True
        for uid, state in self._states.items():
            self._resolver.forget(uid)
            state.ask_again()

    def answered(self, uid: str, key: ImageKey, answer: RegistryAnswer) -> None:
        if uid in self._states:
            self._states[uid].answers[key] = answer
            self._dirty = True

    def knows(self, uid: str) -> bool:
        return uid in self._states

    def snapshot(self, uid: str) -> Snapshot | None:
        """The newest snapshot of all pulls of one object. ``None`` before its first plan."""
        state = self._states.get(uid)
        return state.snapshot if state is not None else None

    def pause(self, now: datetime) -> float | None:
        """Seconds until the next turn. ``None``: no turn before the next event."""
        paced = max(self._not_before - self._clock.monotonic(), 0.0)
        if self._dirty:
            return paced
        if self._waits:
            return max(paced, _LOOK - (self._clock.monotonic() - self._looked))
        times = [state.wake_at for state in self._states.values() if state.wake_at is not None]
        return max((min(times) - now).total_seconds(), paced) if times else None

    def turn(self, now: datetime) -> None:
        """Plan all objects, if one of them may have changed."""
        pause, began = self.pause(now), self._clock.monotonic()
        if pause is None or pause > 0:
            return
        self._dirty = False
        planned = {each.metadata.uid: each for each in _planned(self._known)}
        for uid in self._states.keys() - planned.keys():
            self._forget(uid)
        if planned:
            view = SharedView.of(self._known, reported=self._grace.over)
            for uid, each in planned.items():
                state = self._states.setdefault(uid, PrefetchState())
                state.vote = state.wake_at = None  # without a new plan, those of the former plan must not count
                with self._guard.planning(each, now):
                    self._plan(each, state, view, now)
            self._write_children(planned, now)
        self._write_nodes(planned, now)
        self._gather(planned)
        took = self._clock.monotonic() - began
        self._looked = self._clock.monotonic()
        self._not_before = self._looked + max(_PACE, 3 * took)
        self._waits = not self.settled or (bool(planned) and not self._grace.over)

    # The plan of one object.

    def _plan(self, each: Planned, state: PrefetchState[Any], view: SharedView, now: datetime) -> None:
        if isinstance(each, ImagePrefetch):
            if self._known.workloads.are_read(each):
                self._plan_prefetch(each, state, view, now)
        else:
            self._plan_task(each, state, view, now)

    def _plan_prefetch(
        self, each: ImagePrefetch, state: PrefetchState[PrefetchStatus], view: SharedView, now: datetime
    ) -> None:
        namespace, cluster = each.metadata.namespace, view.cluster
        if each.spec.target.pod_selector is not None:
            cluster = replace(cluster, pods=self._known.workloads.pods(namespace))
        if not each.spec.planning:
            state.surveyed = None
        observed = replace(
            self._observed(each, state, view),
            cluster=cluster,
            around=self._known.workloads.surroundings(each),
            tasks=tuple(view.tasks.get(namespace, ())),
            unsurveyed=self._unsurveyed(state, now) if each.spec.planning else frozenset(),
        )
        plan = self._carry_out(each, state, observed, now)
        if not plan.delete:
            self._writer.apply_children(plan.tasks.apply)
            self._writer.delete_children(namespace, plan.tasks.delete)

    def _plan_task(self, each: TaskResource, state: PrefetchState[TaskStatus], view: SharedView, now: datetime) -> None:
        observed = replace(self._observed(each, state, view), moved=self._moved(state.blobs))
        self._carry_out(each, state, observed, now)

    def _observed(self, each: Planned, state: PrefetchState[Any], view: SharedView) -> ObservedImages:
        namespace, status = each.metadata.namespace, state.status or each.status
        pulls = view.pulls.get(namespace, {})
        edited = status.observed_generation != each.metadata.generation
        return ObservedImages(
            cluster=view.cluster,
            secrets=view.secrets.get(namespace, {}),
            answers=state.answers,
            pulls=pulls if view.reported else state.merged(pulls),
            orders=state.orders,
            runtimes=view.runtimes,
            reported=view.reported,
            may_cancel=state.may_cancel(edited=edited, reported=self._known.supernodes.complete),
            away=view.away,
            cut=view.cut.get(namespace, {}),
            troubles=self._troubles(state),
            former=state.former,
            rights=self._rights,
        )

    def _moved(self, blobs: Iterable[str]) -> SourceBytes | None:
        return self._known.progress.moved_of(map(task_id.of_blob, blobs))

    def _troubles(self, state: PrefetchState[Any]) -> Mapping[str, Trouble]:
        """Why nodes get too few bytes of the object's images."""
        progress = self._known.progress
        if not progress.troubled:
            return progress.silent
        return progress.troubles_of(map(task_id.of_blob, state.blobs))

    def _unsurveyed(self, state: PrefetchState[PrefetchStatus], now: datetime) -> frozenset[str]:
        """Nodes that have not reported yet which blobs they have."""
        blobs, reports = state.awaited_blobs(now), self._known.supernodes.peers
        if blobs is None:
            return frozenset()
        return frozenset(name for name, report in reports.items() if not has_looked(report.runtime, blobs))

    def _carry_out(
        self, each: Planned, state: PrefetchState[Any], observed: ObservedImages, now: datetime
    ) -> PrefetchPlan[Any]:
        plan = plans.plan(msgspec.structs.replace(each, status=state.status or each.status), observed, now)
        state.take(plan, observed, now)
        uid, namespace = each.metadata.uid, each.metadata.namespace
        for key, question in plan.questions:
            self._resolver.put(ResolveRequest(uid, namespace, key, question, state.answers.get(key)))
        self._known.late.pop(uid, None)
        if late := Counter(trouble.reason for trouble in plan.late.values()):
            self._known.late[uid] = late
        new = bool(each.status.late) and not self._known.progress.known
        settling = CATCHING_UP if new else 0.0
        self._writer.write(each, plan.status, announce=True, settling=settling, expired=plan.delete)
        return plan

    # The results of all plans.

    def _write_children(self, planned: Mapping[str, Planned], now: datetime) -> None:
        """Write the status of the Tasks that ImagePrefetches own."""
        for each in self._known.tasks.items.values():
            owner = planned.get(image_task.owner(each)) if each.spec.is_image else None
            if not isinstance(owner, ImagePrefetch):
                continue
            state = self._states[owner.metadata.uid]
            with self._guard.planning(each, now):
                if not image_task.is_made_for(each, owner):
                    self._writer.write(each, image_task.status_of_stranger(each, now))
                elif state.status is not None:
                    found = image_task.status_of_child(each, state.status, state.late_with(each.metadata.name), now)
                    if found.completion_time is None or now - found.completion_time < _ECHO:
                        found = image_task.with_bytes(found, self._moved(self._blobs(each, owner)))
                    self._writer.write(each, found)

    def _blobs(self, each: TaskResource, owner: ImagePrefetch) -> frozenset[str]:
        """The digests of the blobs of an ImagePrefetch's Task."""
        snapshot = self._states[owner.metadata.uid].snapshot
        pins = snapshot.pins.values() if snapshot is not None else ()
        return next((pin.blobs for pin in pins if pin.task == each.metadata.name), frozenset())

    def _write_nodes(self, planned: Mapping[str, Planned], now: datetime) -> None:
        """Remove startup taints, and write the nodes' conditions. Without a plan, a vote counts until its deadline."""
        nodes, unknown, votes = self._known.nodes.items, [], []
        for uid, each in planned.items():
            state = self._states[uid]
            if state.vote is not None:
                votes.append(state.vote)
            elif isinstance(each, ImagePrefetch) and each.spec.startup_taint is not None and each.spec.votes:
                taint, privileged = each.spec.startup_taint, self._known.workloads.is_privileged(each)
                target = each.spec.target
                vote, state.wake_at = startup_taint.unknown_vote(taint, target, nodes, now, privileged=privileged)
                unknown.append(vote)
        self._writer.remove_taints(startup_taint.removable((*votes, *unknown), self._rights))
        # Until the first report, no node is known to have its images.
        if self._rights.condition and self._grace.over:
            self._writer.set_images_ready(startup_taint.node_conditions(votes, nodes, unknown))

    def _forget(self, uid: str) -> None:
        del self._states[uid]
        self._known.late.pop(uid, None)
        self._writer.forget(uid)
        self._resolver.forget(uid)

    def _gather(self, planned: Mapping[str, Planned]) -> None:
        """Join the images, blobs and pull secrets that all objects need."""
        oldest = sorted(planned.values(), key=lambda each: task_quota.age(each.metadata))
        known = [self._states[each.metadata.uid] for each in oldest]
        self.images = tuple(image for state in known for image in state.images or ())
        self.unchanged = tuple(sorted(set(self._unknown(planned))))
        self.survey = tuple(sorted({blob for state in known if state.surveyed for blob in state.surveyed[0]}))
        self._known.pull_secrets = frozenset(
            (each.metadata.namespace, name) for uid, each in planned.items() for name in self._states[uid].secrets
        )
        self._settle(known)

    def _unknown(self, planned: Mapping[str, Planned]) -> Iterator[str]:
        """Yield the keys of wanted images whose orders are not known yet. Images without a known name are left out."""
        unknown = {uid: each for uid, each in planned.items() if self._states[uid].images is None}
        for uid, each in unknown.items():
            yield from (f"{each.metadata.namespace}/{name}" for name in self._states[uid].orders)
            if isinstance(each, TaskResource) and each.status.digest:
                yield image_task.former_key(each)
        if unknown:
            tasks = self._known.tasks.items.items()
            yield from (key for key, each in tasks if each.spec.is_image and image_task.owner(each) in unknown)

    def _settle(self, known: list[PrefetchState[Any]]) -> None:
        """Allow the first statement once every image and Secret is known. Without them, running downloads may fail."""
        if not self.settled and self._known.named_secrets() <= self._known.secrets.keys():
            self.settled = all(state.images is not None for state in known)
        if self.settled or not self._grace.over:
            return
        moment = self._clock.monotonic()
        self._waiting_since = moment if self._waiting_since is None else self._waiting_since
        self.settled = moment - self._waiting_since >= _PATIENCE


def _planned(known: Observation) -> Iterator[Planned]:
    """All ImagePrefetches, and all Tasks with an image that no ImagePrefetch owns, unless they are being deleted."""
    for prefetch in known.prefetches.items.values():
        if prefetch.metadata.deletion_timestamp is None:
            yield prefetch
    for task in known.tasks.items.values():
        if task.spec.is_image and task.metadata.deletion_timestamp is None and not image_task.owner(task):
            yield task
