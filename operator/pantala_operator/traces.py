"""The operator's spans: the whole attempt of a Task, and its planning. Used only if traces are on."""

import time

from pantala_operator.events import OperatorEvents, ResourceChanged, StatementTaken, WriteEnded
from pantala_operator.resources import conditions
from pantala_operator.resources.api import TaskResource
from pantala_operator.watch.observation import Observation
from pantala_process.tracing.spans import Span, Traces
from pantala_protocol.statement import WantedTask


class TaskTraces:
    """Records the span ``plan`` when a supernode has the Task, and the first span when the Task is ready or deleted.

    After a restart of the operator, the planning of an unfinished Task may be recorded again.
    """

    def __init__(self, traces: Traces, known: Observation, events: OperatorEvents) -> None:
        self._traces = traces
        self._known = known
        self._seen: dict[str, tuple[str, float]] = {}
        """Each Task's newest attempt, and when it was first seen. By UID, as all below."""
        self._stated: dict[str, str] = {}
        """The context that a supernode has accepted."""
        self._open: dict[str, tuple[WantedTask, float]] = {}
        """The Tasks that are not ready, and when their attempts began."""
        events.subscribe(ResourceChanged, self._on_resource)
        events.subscribe(StatementTaken, self._on_statement)
        events.subscribe(WriteEnded, self._on_write)

    def _on_resource(self, event: ResourceChanged) -> None:
        task = event.resource
        if not isinstance(task, TaskResource):
            return
        uid = task.metadata.uid
        if event.deleted:
            if uid in self._open:
                ready = conditions.find(task.status.conditions, "Ready")
                self._end(task, "Deleted" if ready is None else ready.reason)
            for kept in (self._seen, self._stated, self._open):
                kept.pop(uid, None)
        elif self._seen.get(uid, ("",))[0] != task.attempt:
            self._seen[uid] = task.attempt, time.time()

    def _on_statement(self, event: StatementTaken) -> None:
        for wanted in event.tasks:
            task = self._known.tasks.items.get(wanted.name)
            if self._stated.get(wanted.uid) == wanted.trace or task is None or task.attempt != wanted.attempt:
                continue
            self._stated[wanted.uid] = wanted.trace
            if not _is_ready(task):
                attempt, began = self._seen.get(wanted.uid, ("", 0.0))
                if attempt != wanted.attempt:  # the attempt is older than this process
                    created = task.status.start_time or task.metadata.creation_timestamp
                    began = created.timestamp() if created is not None else time.time()
                self._open[wanted.uid] = wanted, began
                self._traces.record(Span("plan", wanted.trace, began, time.time(), {"pantala.supernode": event.name}))

    def _on_write(self, event: WriteEnded) -> None:
        wanted, _ = self._open.get(event.key, (None, 0.0))
        task = self._known.tasks.items.get(wanted.name) if wanted is not None else None
        if wanted is not None and task is not None and task.attempt == wanted.attempt and _is_ready(task):
            self._end(task)

    def _end(self, task: TaskResource, error: str = "") -> None:
        wanted, began = self._open.pop(task.metadata.uid)
        nodes = task.status.peers.desired if task.status.peers is not None else 0
        about: dict[str, str | int] = {"pantala.task": wanted.name, "pantala.nodes": nodes}
        self._traces.record(Span("task", wanted.trace, began, time.time(), about, error, first=True))


def _is_ready(task: TaskResource) -> bool:
    """True if the status says that the newest attempt is ready."""
    status = task.status
    current = (status.observed_generation, status.last_handled_request)
    return task.is_ready and current == (task.metadata.generation, task.requested_at)
