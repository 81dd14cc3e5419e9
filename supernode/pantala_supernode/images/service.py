"""Builds the parts of the supernode for container images."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from pantala_protocol.registry import BlobAnswer
from pantala_protocol.rules.rights import Right
from pantala_protocol.statement import Statement
from pantala_protocol.sync import WantedBlob
from pantala_supernode.errors import NotReadyError
from pantala_supernode.events import Events
from pantala_supernode.images.evidence import EvidenceFinder, Vouch
from pantala_supernode.images.leases import BlobLeases
from pantala_supernode.images.ledger import BlobLedger
from pantala_supernode.images.manifests import ManifestService
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.images.sources import BlobSources
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.service import RegistryService
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.tasks.task import LeaseHolder

_HOLD = 8.0
"""The most seconds that a question waits for evidence. Peers wait a little longer for the answer."""


class ImageService:
    """The parts for orders, manifests and blobs. ``received``: as in :class:`BlobLeases`. ``ledger``: a path."""

    def __init__(
        self,
        registries: RegistryService,
        endpoints: RegistryEndpoints,
        managers: Managers,
        *,
        leases: LeaseHolder,
        events: Events,
        received: Callable[[str], int],
        vouch: Vouch,
        blob_seconds: float,
        ledger: Path,
        clock: Callable[[], float],
    ) -> None:
        self._events = events
        self._tasks = managers.tasks
        self._clock = clock
        self.stated = StatedImages()
        self.evidence = EvidenceFinder(registries.reader, endpoints, registries.rights, vouch, clock=clock)
        self._accounts = accounts = OrderAccounts(registries.choice)
        self.manifests = ManifestService(registries.client, registries.access, self.stated, accounts, clock=clock)
        self.sources = BlobSources(self.stated, accounts, endpoints, registries.rights, clock=clock)
        self.blobs = BlobLeases(
            leases,
            managers,
            self.sources,
            registries.rights,
            self.evidence.find,
            reassign=events.assignments_changed.publish,
            received=received,
            seconds=blob_seconds,
            clock=clock,
        )
        self.ledger = BlobLedger(ledger, self.blobs, wall=time.time)

    def on_statement(self, statement: Statement) -> None:
        self._events.orders_changed.publish(self.stated.take(statement))
        self._accounts.keep(self.stated.credentials)
        self.blobs.on_statement()

    async def ask(self, peer: str, wanted: WantedBlob) -> BlobAnswer:
        """Whether the client with the credential in ``wanted`` may read the blob.

        Raises :class:`ForbiddenError` if the question is not valid, :class:`NotReadyError` before the first statement.
        """
        if not self._tasks.stated:
            raise NotReadyError("this supernode has not received the operator's statement yet")
        answered: asyncio.Future[Right | None] = asyncio.get_running_loop().create_future()

        def answer(right: Right | None) -> None:
            if not answered.done():
                answered.set_result(right)

        question = self.blobs.ask(peer, wanted, answer)
        try:
            async with asyncio.timeout(_HOLD):
                right = await answered
        except TimeoutError:
            return BlobAnswer()
        finally:
            self.blobs.end(question)
        if right is None:
            return BlobAnswer(refused=True)
        return BlobAnswer(right.generation, max(right.until - self._clock(), 0.0))
