"""A supernode that leases blobs, without a CDN, a registry or a network."""

from dataclasses import replace

from pantala_protocol import task_id
from pantala_protocol.image import ImageReference
from pantala_protocol.rules.rights import EvidenceKind, Rights, Ruling
from pantala_protocol.statement import CDNStatus, Failure, Statement
from pantala_protocol.sync import WantedBlob
from pantala_supernode.images.blob import Offer
from pantala_supernode.images.leases import BlobLeases
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.images.sources import BlobSources
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import PeerManager, SwarmPeer
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Managers, SchedulerManager
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.shares import IMAGES
from pantala_supernode.tasks.task import Lease, Task

DIGEST = "sha256:" + "a" * 64
NAME = task_id.of_blob(DIGEST)
WANTED, OTHER = (
    WantedBlob("registry.example", "team/app", DIGEST, credential=f"Bearer {name}") for name in ("one", "two")
)
URL = f"https://registry.example/v2/team/app/blobs/{DIGEST}"
RIGHTS = Rights(b"key")


def source(credential: str, repository: str = "registry.example/team/app", url: str = URL) -> FileSource:
    client = RIGHTS.subject(repository, f"Bearer {credential}").hex()
    headers = {"Authorization": f"Bearer {credential}"}
    return FileSource(url, headers, DIGEST, tenants=frozenset({IMAGES}), origin=repository, client=client)


ONE, TWO = source("one"), source("two")
LIAR = WantedBlob("liar.example", "a", DIGEST, credential="Bearer liar")
LIE = source("liar", "liar.example/a", f"https://liar.example/v2/a/blobs/{DIGEST}")
KEPT = 1000.0


class BlobStage:
    """A supernode without a CDN, a registry or a network."""

    def __init__(self, *, stated: bool = True) -> None:
        self.now = 100.0
        self.received = 0
        self.asked: list[FileSource] = []
        self.proved: list[FileSource] = []
        self.reassigned: list[str] = []
        self.leases: list[Lease] = []
        self.images = StatedImages()
        self.choice: tuple[RegistryAccount, ...] = (ANONYMOUS,)
        progress = ProgressManager()
        scheduler = SchedulerManager(progress, policy=SchedulingPolicy(), chance=None, lookup=lambda _: None)  # type: ignore[arg-type]
        self.managers = Managers(TaskManager(grace=5), DfgetTaskManager(), PeerManager(), progress, scheduler)
        for name in ("n1", "n2"):
            self.managers.peers.register(SwarmPeer(name, "10.0.0.1", 1, b""))
        self.rights = Rights(b"key")
        sources = BlobSources(
            self.images,
            OrderAccounts(self),  # type: ignore[arg-type]
            RegistryEndpoints(only=["registry.example", "liar.example"]),
            self.rights,
            clock=lambda: self.now,
        )
        self.blobs = BlobLeases(
            self,
            self.managers,
            sources,
            self.rights,
            self.find,
            reassign=self.reassigned.extend,
            received=lambda _: self.received,
            seconds=KEPT,
            clock=lambda: self.now,
        )
        if stated:
            self.state()

    def of(self, _image: ImageReference, _keyring: Keyring) -> tuple[RegistryAccount, ...]:
        """The accounts of an order."""
        return self.choice

    def state(self) -> None:
        self.managers.tasks.state(Statement(1), now=self.now)
        self.blobs.on_statement()

    @property
    def task(self) -> Task:
        return self.managers.tasks.known(NAME)

    def lease(self, task_id: str, lease: Lease) -> None:
        self.leases.append(lease)
        self.managers.tasks.lease(task_id, lease)
        if task_id == NAME:
            self.shows(status=CDNStatus.WAITING, failure=None)

    def end_lease(self, task_id: str, *, keep: bool = False) -> None:
        assert keep
        self.managers.tasks.end_lease(task_id, keep=keep)

    def find(self, copy: Copy, offer: Offer, ruling: Ruling, tell: object) -> None:
        assert copy.generation
        asked = self.asked if ruling is Ruling.ASK else self.proved
        if offer.source not in asked:
            asked.append(offer.source)

    def proves(self, found: FileSource, allowed: bool) -> None:
        """The registry of a source allows or refuses its client."""
        client = self.rights.subject(found.origin, found.headers["Authorization"])
        if allowed:
            generation = self.task.copy.generation
            self.rights.grant(client, DIGEST, EvidenceKind.ALLOWED, self.now, generation=generation)
        else:
            self.rights.refuse(client, DIGEST, self.now)
        self.asked.clear()
        self.blobs.on_evidence(NAME)

    def say(self, peer: str, *wanted: WantedBlob) -> None:
        """A peer reports the blobs that it waits for."""
        self.blobs.take(peer, {task_id.of_blob(each.digest): each for each in wanted})

    def shows(self, **copy: object) -> None:
        self.managers.tasks.update(NAME, replace(self.task.copy, **copy))  # type: ignore[arg-type]
        self.blobs.on_task_changed(NAME)

    def arrives(self, *, whole: bool = False, of: FileSource | None = None, generation: str = "g") -> None:
        """Pieces of ``of`` arrive, or else of the source in the order."""
        ordered = self.task.lease.source if self.task.lease is not None else None
        found = of or ordered or ONE
        self.shows(
            cached=1,
            length=7,
            generation=generation,
            status=CDNStatus.SUCCESS if whole else CDNStatus.RUNNING,
            failure=None,
            origins=(found.origin,),
            client=found.client,
        )

    def fails(self, reason: str = "SourceUnauthorized") -> None:
        """The source in the order fails, and its pieces are discarded."""
        source = self.task.lease.source if self.task.lease is not None else None
        self.shows(
            status=CDNStatus.FAILED,
            failure=Failure(reason, "no", final=True),
            failed_source=source,
            generation="",
            cached=0,
            length=None,
            origins=(),
            client="",
        )
