"""Metrics of one process: a registry with its version and the process's own figures, and the ``/metrics`` answer.

Each family is declared once as a :class:`Family`, with the question that it answers. Labels come from closed lists:
never a URL, an address or an ID. Most figures are computed for each request.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pantala_protocol import __version__

OTHER: Final = "Other"
"""The value of a label that replaces a value which is not in the label's list."""


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of one family. ``docs/reference/metrics.md`` is written from it."""

    name: str
    """The name in queries. The name of a counter ends with ``_total``."""
    type: Literal["counter", "gauge", "histogram"]
    text: str
    question: str
    """The question of a user that the family answers."""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The possible values of each label."""

    @property
    def base(self) -> str:
        """The name without ``_total``, as the Prometheus library needs it."""
        return self.name.removesuffix("_total")

    def value(self, value: float) -> Metric:
        """The family with one sample and no label."""
        made = self._made()
        made.add_metric([], value)
        return made

    def values(self, counts: Mapping[Any, float]) -> Metric:
        """The family with one label. Each value of its list has a sample, even if it is 0."""
        made = self._made()
        [known] = self.labels.values()
        for each in known:
            made.add_metric([str(each)], counts.get(each, 0))
        return made

    def groups(self, counts: Mapping[tuple[str, ...], float]) -> Metric:
        """The family with several labels. Only the given combinations have a sample."""
        made = self._made()
        for labels, count in sorted(counts.items()):
            made.add_metric(labels, count)
        return made

    def known(self, label: str, value: str) -> str:
        """The value, or :data:`OTHER` if it is not in the label's list."""
        return value if value in self.labels[label] else OTHER

    def _made(self) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if self.type == "counter" else GaugeMetricFamily
        return kind(self.base, self.text, labels=tuple(self.labels))


BUILD: Final = Family(
    "pantala_build_info", "gauge", "Version of this process. The value is 1.",
    "Which versions run, and do all processes have the same one?",
    {"process": ("operator", "supernode", "peer"), "version": (__version__,)},
)  # fmt: skip


def new_registry(process: str) -> CollectorRegistry:
    """A registry with ``pantala_build_info``, and with CPU and memory of the process as ``process_*``."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Info(BUILD.name.removesuffix("_info"), BUILD.text, registry=registry).info(
        {"process": process, "version": __version__}
    )
    return registry


def metrics_response(registry: CollectorRegistry) -> web.Response:
    """All metrics, in Prometheus' text format."""
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class Readings(Collector):
    """A collector that calls ``read`` for each request to ``/metrics``."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield from self._read()
