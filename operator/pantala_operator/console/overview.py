"""Builds the views from the operator's observation. 10,000 Tasks take a moment, so views are built in slices and kept.

The summary of a finished Task follows from its status alone, so it is kept as long as the resource does not change.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec

from pantala_operator.console import peers, summaries
from pantala_operator.console.history import ConditionHistory, timeline
from pantala_operator.console.peers import Rates
from pantala_operator.control.details import Details
from pantala_operator.ports import Clock
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.term import Term
from pantala_operator.watch.observation import Observation
from pantala_process.flight import SingleFlight
from pantala_protocol import __version__
from pantala_protocol.console.progress import WINDOW
from pantala_protocol.console.views import Console, NodeView, TaskDetail, TaskSummary, Traffic

_SLICE: Final = 200
"""Tasks between two moments at which other work may run."""
_FRESH: Final = 0.4
"""Seconds for which a built overview is used again, at least."""
_ECHO: Final = timedelta(seconds=2 * WINDOW)
"""Seconds after which a finished Task has no rate any more."""
_CALM: Final = 4
"""A built overview is used this many times longer than it took to build."""
_MOST_IMAGES: Final = 50
"""The most unfinished images whose nodes are looked at for their rates."""


@dataclass(frozen=True, slots=True)
class _Built:
    """The whole view, and until when it is used."""

    view: Console
    until: float
    """By the monotonic clock."""


class ConsoleOverview:
    """The views of one operator."""

    def __init__(
        self,
        known: Observation,
        details: Details,
        history: ConditionHistory,
        term: Term,
        leader: Callable[[], str],
        clock: Clock,
    ) -> None:
        """``leader`` returns the name of the pod that leads, or an empty text if it is not known."""
        self._known = known
        self._details = details
        self._history = history
        self._term = term
        self._leader = leader
        self._clock = clock
        self._kept: dict[str, tuple[TaskResource | ImagePrefetch, TaskSummary]] = {}
        self._flights: SingleFlight[str, _Built] = SingleFlight()
        self._built: _Built | None = None

    async def console(self, namespace: str, *, unfinished: bool, limit: int) -> Console:
        """The state of the whole installation."""
        built = self._built
        if built is None or self._clock.monotonic() > built.until:
            built = await self._flights.share("", self._build)
        view = built.view
        chosen = [
            each
            for each in view.tasks
            if (not namespace or each.namespace == namespace) and not (unfinished and summaries.is_over(each))
        ]
        return msgspec.structs.replace(view, tasks=tuple(chosen[:limit]), omitted=max(0, len(chosen) - limit))

    def detail(self, kind: type[TaskResource | ImagePrefetch], namespace: str, name: str) -> TaskDetail | None:
        """One Task or ImagePrefetch. ``None``: it does not exist."""
        each = self._known.collection(kind).items.get(f"{namespace}/{name}")
        if each is None:
            return None
        nodes, status, summary = self._details.nodes(each), each.status, self._summary(each)
        if summary.ready != "True":
            summary = self._with_nodes(summary, each, nodes)
        known = self._history.moments(each.metadata.uid)
        moments = timeline(each.metadata, status.conditions, known, status.start_time, status.completion_time)
        began = {moment.reason: moment.at for moment in known}
        return TaskDetail(summary, nodes, self._details.causes(each, nodes, began), moments)

    async def _build(self) -> _Built:
        known, summaries = self._known, list[TaskSummary]()
        moved: dict[str, Traffic] = {}  # Tasks with the same content share a copy and its numbers
        began, images = self._clock.monotonic(), 0
        resources: list[TaskResource | ImagePrefetch] = [*known.prefetches.items.values(), *known.tasks.items.values()]
        for number, each in enumerate(resources):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            summary = self._summary(each)
            if summary.image and summary.ready != "True" and images < _MOST_IMAGES:
                images += 1
                summary = self._with_nodes(summary, each, self._details.nodes(each))
                await asyncio.sleep(0)
            summaries.append(summary)
            if isinstance(each, TaskResource) and each.status.task_id:
                moved.setdefault(each.status.task_id, summary.traffic)
        uids = {each.metadata.uid for each in resources}
        self._kept = {uid: kept for uid, kept in self._kept.items() if uid in uids}
        self._history.keep_only(uids)
        await asyncio.sleep(0)
        summaries.sort(key=lambda each: (each.ready == "True", -each.created, each.namespace, each.name))
        rates, reports, zones = Rates(known.progress.messages.values()), known.supernodes.peers, known.zones
        view = Console(
            at=self._clock.now().timestamp(),
            version=__version__,
            leads=self._term.leads,
            leader="" if self._term.leads else self._leader(),
            tasks=tuple(summaries),
            peers=tuple(
                peers.view(peer, reports.get(name), rates, zones.get(name, ""))
                for name, peer in sorted(known.peers.items.items())
            ),
            supernodes=tuple(peers.supernodes(known.supernodes, known.progress.messages)),
            edges=rates.views(),
            traffic=rates.of_all(moved.values()),
            saved=sum(max(0, each.supernode + each.peers - each.origin) for each in moved.values()),
        )
        now = self._clock.monotonic()
        self._built = built = _Built(view, now + max(_FRESH, _CALM * (now - began)))
        return built

    def _summary(self, each: TaskResource | ImagePrefetch) -> TaskSummary:
        """The summary of an object, without the nodes of an unfinished image. A view of these nodes takes longer."""
        uid, status = each.metadata.uid, each.status
        if uid in self._kept and self._kept[uid][0] is each:
            return self._kept[uid][1]
        finished = each.is_ready
        echoes = status.completion_time is not None and self._clock.now() - status.completion_time < _ECHO
        if isinstance(each, ImagePrefetch):
            summary = summaries.of_prefetch(each)
        else:
            task_id = each.status.task_id
            view = None if finished else self._known.supernodes.task_view(uid, task_id, each.attempt)
            downloads = self._known.progress.downloads(task_id) if echoes or not finished else None
            summary = summaries.of_task(each, view.report if view is not None else None, downloads)
        if finished and summary.image:
            summary = msgspec.structs.replace(summary, traffic=self._details.traffic(each))
        if finished and not echoes:
            self._kept[uid] = each, summary
        return summary

    def _with_nodes(
        self, summary: TaskSummary, each: TaskResource | ImagePrefetch, nodes: Sequence[NodeView]
    ) -> TaskSummary:
        if summary.image:
            summary = msgspec.structs.replace(summary, traffic=self._details.traffic(each))
        return summaries.with_nodes(summary, nodes)
