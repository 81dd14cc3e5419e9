"""Builds the parts of the supernode for container images."""

import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from pantala_pieces.store import PieceStore
from pantala_protocol.statement import Statement
from pantala_supernode.events import Events
from pantala_supernode.images.leases import BlobLeases
from pantala_supernode.images.ledger import BlobLedger
from pantala_supernode.images.manifests import ManifestService
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.images.proofs import BlobProver
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.permissions import RegistryPermissions
from pantala_supernode.registry.service import RegistryService
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.tasks.task import LeaseHolder


class ImageService:
    """The parts for orders, manifests and blobs. ``unknown``: as in :class:`BlobLeases`. ``ledger``: a path."""

    def __init__(
        self,
        registries: RegistryService,
        endpoints: RegistryEndpoints,
        managers: Managers,
        store: PieceStore,
        *,
        leases: LeaseHolder,
        events: Events,
        unknown: Callable[[str], bool],
        blob_seconds: float,
        ledger: Path,
        chance: random.Random,
        clock: Callable[[], float],
    ) -> None:
        self._events = events
        self.stated = StatedImages()
        self.prover = BlobProver(store, registries.reader, chance)
        accounts = OrderAccounts(registries.choice)
        self.manifests = ManifestService(registries.client, registries.access, self.stated, accounts, clock=clock)
        self.blobs = BlobLeases(
            leases,
            managers,
            self.stated,
            accounts,
            endpoints,
            RegistryPermissions(secrets.token_bytes(32), clock),
            self.prover,
            reassign=events.assignments_changed.publish,
            unknown=unknown,
            seconds=blob_seconds,
            clock=clock,
        )
        self.ledger = BlobLedger(ledger, self.blobs, wall=time.time)

    def on_statement(self, statement: Statement) -> None:
        self._events.orders_changed.publish(self.stated.take(statement))
        self.blobs.on_statement()
