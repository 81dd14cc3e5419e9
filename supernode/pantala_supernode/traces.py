"""Records the supernode's spans. Used only if traces are on."""

import time

from pantala_process.tracing.spans import Span, Traces
from pantala_protocol.statement import CDNStatus
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.task import Task


class FetchTraces:
    """Records the span ``fetch`` for each Task whose copy became complete or failed."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._began: dict[str, float] = {}

    def on_copy(self, task: Task, before: Copy) -> None:
        status, now = task.copy.status, time.time()
        if status is before.status:
            return
        if status is CDNStatus.RUNNING:
            self._began[task.id] = now
            return
        began = self._began.pop(task.id, None)
        if began is None and status is CDNStatus.FAILED:
            began = now  # the origin refused before the first byte
        if began is None:  # the volume had the file
            return
        failure = task.copy.failure
        error = failure.reason if failure is not None and status is not CDNStatus.SUCCESS else ""
        about: dict[str, str | int] = {"pantala.origin_bytes": task.copy.origin_bytes}
        for wanted in task.wanted.values():
            self._traces.record(Span("fetch", wanted.trace, began, now, about, error))
