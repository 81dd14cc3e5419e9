"""The peer's spans for the download and the publication of a file. Used only if traces are on."""

import time
from collections import Counter
from collections.abc import Callable

from pantala_peer.events import Assigned, DownloadEnded, FilePublished, PeerEvents, WorkGiven
from pantala_process.tracing.spans import Span, Traces


class DeliveryTraces:
    """Records one span ``distribute`` and one span ``publish`` for each delivery."""

    def __init__(self, traces: Traces, node: str, events: PeerEvents, wall: Callable[[], float] = time.time) -> None:
        """``wall`` returns seconds since the epoch."""
        self._traces = traces
        self._node = node
        self._wall = wall
        self._waiting: dict[str, set[str]] = {}
        """The trace contexts of unpublished deliveries, by task."""
        self._done: set[str] = set()
        """The trace contexts of published deliveries."""
        self._began: dict[str, float] = {}
        self._received: dict[str, Counter[str]] = {}
        events.subscribe(Assigned, self._on_assigned)
        events.subscribe(WorkGiven, self._on_work)
        events.subscribe(DownloadEnded, self._on_download_ended)
        events.subscribe(FilePublished, self._on_published)

    def _on_assigned(self, event: Assigned) -> None:
        named = {name: {each.trace for each in task.deliveries if each.trace} for name, task in event.tasks.items()}
        self._done &= set[str]().union(*named.values())
        self._waiting = {name: traces - self._done for name, traces in named.items() if traces - self._done}
        for kept in (self._began, self._received):
            for name in kept.keys() - self._waiting.keys():
                del kept[name]

    def _on_work(self, event: WorkGiven) -> None:
        if event.work.task_id in self._waiting:
            self._began.setdefault(event.work.task_id, self._wall())

    def _on_download_ended(self, event: DownloadEnded) -> None:
        if event.error is None and event.work.task_id in self._waiting:
            source = "peers" if event.work.provider else "supernode"
            self._received.setdefault(event.work.task_id, Counter())[source] += event.work.size

    def _on_published(self, event: FilePublished) -> None:
        trace, name = event.delivery.trace, event.task_id
        if trace not in self._waiting.get(name, ()):
            return
        self._waiting[name].remove(trace)
        self._done.add(trace)
        now = self._wall()
        published = now - event.seconds
        received = self._received.get(name, Counter[str]())
        about: dict[str, str | int] = {"pantala.node": self._node}
        if name in self._began:
            bytes_by_source = {f"pantala.bytes_from_{source}": received[source] for source in ("supernode", "peers")}
            self._traces.record(Span("distribute", trace, self._began[name], published, {**about, **bytes_by_source}))
        self._traces.record(Span("publish", trace, published, now, about))
