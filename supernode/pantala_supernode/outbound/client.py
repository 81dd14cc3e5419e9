"""The outbound client. It sends requests in threads, so that servers and name servers do not block the event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from pantala_supernode.outbound.egress import EgressPolicy
from pantala_supernode.outbound.exchange import Exchange
from pantala_supernode.outbound.handles import HandlePool
from pantala_supernode.outbound.names import Lookup, Names, system_lookup
from pantala_supernode.outbound.proxy import Proxy
from pantala_supernode.outbound.request import Head, Limits, Request, Sink, Timeouts
from pantala_supernode.outbound.route import Route
from pantala_supernode.outbound.trust import Trust

_THREADS = 216
"""The most requests at once: 88 of the CDN, and 128 small requests to registries and token servers."""


class OutboundClient:
    """Sends requests to origins, registries and token servers, if ``egress`` allows their addresses."""

    def __init__(
        self,
        *,
        egress: EgressPolicy | None = None,
        trust: Trust | None = None,
        proxy: Proxy | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        lookup: Lookup = system_lookup,
        threads: int = _THREADS,
    ) -> None:
        self._trust = trust or Trust()
        self._route = Route(egress or EgressPolicy(), proxy, Names(lookup))
        self._timeouts = timeouts or Timeouts()
        self._limits = limits or Limits()
        self._handles = HandlePool()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="outbound")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._handles.close()

    async def send(self, request: Request, sink: Sink) -> Head:
        """Send a request, follow its redirects and pass the answer to ``sink``. Returns the answer's head.

        Raises :class:`pantala_supernode.outbound.errors.OutboundError`,
        :class:`pantala_supernode.errors.SourceDeniedError`, or an exception of ``sink``. A cancellation closes the
        connection within 100 ms.
        """
        exchange = Exchange(
            request,
            sink,
            handles=self._handles,
            route=self._route,
            trust=self._trust,
            timeouts=self._timeouts,
            limits=self._limits,
        )
        reading = asyncio.get_running_loop().run_in_executor(self._threads, exchange.run)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            exchange.cancel()
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # retrieved, so not logged
            raise
