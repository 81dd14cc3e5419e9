"""Fetches pieces over HTTP from their providers: peers, Dragonfly's clients and supernodes."""

import time

from pantala_pieces.errors import FilesExhaustedError, store_error
from pantala_pieces.transfer.answers import receive_answer
from pantala_pieces.transfer.channel import Channel
from pantala_pieces.transfer.connections import Address, KeptConnections
from pantala_pieces.transfer.deadlines import AdaptiveTimeouts, AnswerWatch, ReceiveTimeouts
from pantala_pieces.transfer.errors import ProviderUnreachableError
from pantala_pieces.transfer.jobs import PieceBuffer, ReceiveJob
from pantala_pieces.transfer.requests import PieceRequest
from pantala_process.tls import names
from pantala_process.tls.contexts import TLSContexts
from pantala_protocol.sync import PieceWork

_KEEP_FOR = 30.0
"""Seconds that an idle connection is kept while no piece is received."""


class Providers:
    """Fetches pieces over HTTP, and reuses the connections to each provider. Any thread may use it."""

    def __init__(self, *, connect_timeout: float, timeouts: ReceiveTimeouts, tls: TLSContexts | None = None) -> None:
        self._connect_timeout = connect_timeout
        self._timeouts = AdaptiveTimeouts(timeouts)
        self._kept = KeptConnections()
        self._tls = tls

    def fetch(self, job: ReceiveJob, buffer: PieceBuffer) -> memoryview:
        """Receive the piece into ``buffer``. It is not verified yet.

        Raises :class:`FetchError`, :class:`JobCancelledError`, or :class:`FilesExhaustedError`.
        """
        work = job.work
        request = PieceRequest.of(work)
        address = Address(work.host, work.port, "" if self._tls is None else _certificate(work))
        into = buffer.view(request.size)
        first = AnswerWatch(self._timeouts, work)
        if not self._reuse(job, address, request, into, first):
            channel = self._connect(job, address)
            self._exchange(job, address, channel, request, into, AnswerWatch(self._timeouts, work))
        self._timeouts.note(time.monotonic() - first.begun_at)
        return into[request.skip : request.skip + work.size]

    def rest(self) -> None:
        """Close the connections that have been idle for :data:`_KEEP_FOR` seconds."""
        self._kept.close(_KEEP_FOR)

    def close(self) -> None:
        """Close the idle connections."""
        self._kept.close()

    def _reuse(
        self, job: ReceiveJob, address: Address, request: PieceRequest, into: memoryview, watch: AnswerWatch
    ) -> bool:
        """Receive the piece over an idle connection. False: no connection is idle, or the provider closed it."""
        channel = self._kept.take(address)
        if channel is None:
            return False
        try:
            self._exchange(job, address, channel, request, into, watch)
        except ProviderUnreachableError:
            if watch.answered:
                raise
            return False  # the provider has closed an idle connection; the piece may be fine
        return True

    def _exchange(
        self,
        job: ReceiveJob,
        address: Address,
        channel: Channel,
        request: PieceRequest,
        into: memoryview,
        watch: AnswerWatch,
    ) -> None:
        keep = False
        try:
            job.watch(channel)
            keep = receive_answer(channel, request, into, watch)
        finally:
            job.unwatch()
            if keep:
                self._kept.keep(address, channel)
            else:
                channel.close()

    def _connect(self, job: ReceiveJob, address: Address) -> Channel:
        host, port, name = address
        timeout = self._connect_timeout
        tls = None if self._tls is None else self._tls.client
        try:
            return Channel.connect(host, port, timeout=timeout, tls=tls, name=name, begun=job.watch)
        except TimeoutError:
            raise ProviderUnreachableError(f"{host} port {port}: no connection in {timeout} s") from None
        except OSError as error:
            own = store_error(f"connect to {host} port {port}", error)
            if isinstance(own, FilesExhaustedError):
                raise own from error
            raise ProviderUnreachableError(f"{host} port {port} cannot be reached: {error}") from error


def _certificate(work: PieceWork) -> str:
    """The name that the provider's certificate must have. The supernode named the provider."""
    return names.of_peer(work.provider) if work.provider else work.certificate
