"""Metrics of one process: a registry with its version and the process's own figures, and the ``/metrics`` answer.

Labels come from closed lists: never a URL, an address or an ID. Most figures are computed for each request.
"""

from collections.abc import Callable, Iterable, Iterator

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Info, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from pantala_protocol import __version__


def new_registry(process: str) -> CollectorRegistry:
    """A registry with ``pantala_build_info``, and with CPU and memory of the process as ``process_*``."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Info("pantala_build", "Version of this process.", registry=registry).info(
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
