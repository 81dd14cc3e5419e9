"""Which blobs are fetched, from where, and which peers receive them."""

from dataclasses import replace

import msgspec
import pytest

from pantala_protocol import task_id
from pantala_protocol.image import ImageReference
from pantala_protocol.images import PullOrder, WantedImage
from pantala_protocol.rules.rights import SECONDS, EvidenceKind, Right, Rights, Ruling
from pantala_protocol.statement import CDNStatus, Failure, Statement
from pantala_protocol.sync import WantedBlob
from pantala_supernode.images import leases
from pantala_supernode.images.blob import KeptBlob, Offer
from pantala_supernode.images.leases import PRIORITY, BlobLeases
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.images.sources import BlobSources
from pantala_supernode.registry.credentials import ANONYMOUS, POD_IDENTITY, Keyring, RegistryAccount
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


class Stage:
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


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_blob_is_leased_with_the_peers_credentials_and_served_once_pieces_arrive(stage: Stage) -> None:
    stage.say("n1", WANTED)
    (lease,) = stage.leases
    assert replace(ONE, attempt="blob:1", priority=PRIORITY) == lease.source
    assert set() == stage.task.fetchers
    stage.arrives()
    assert ({"n1"}, {"n1"}, []) == (stage.task.fetchers, stage.task.keepers, stage.asked)
    assert "n1" in stage.reassigned
    stage.say("n1", WANTED)
    assert 1 == len(stage.leases)


def test_demand_waits_for_the_first_statement() -> None:
    stage = Stage(stated=False)
    stage.say("n1", WANTED)
    assert [] == stage.leases
    stage.state()
    assert 1 == len(stage.leases)


@pytest.mark.parametrize(
    "wanted",
    [
        WantedBlob("other.example", "team/app", DIGEST),
        WantedBlob("registry.example", "../app", DIGEST),
        WantedBlob("registry.example", "team/app", DIGEST, order="ns/none"),
    ],
)
def test_invalid_demand_is_ignored(stage: Stage, wanted: WantedBlob) -> None:
    stage.say("n1", wanted)
    stage.blobs.take("n2", {"0" * 64: WANTED})
    assert [] == stage.leases


def test_a_refused_credential_is_replaced_by_another_peers(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.say("n2", OTHER)
    assert 1 == len(stage.leases)
    stage.fails()
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]
    assert stage.leases[0].attempt != stage.leases[-1].attempt
    stage.arrives()
    assert {"n2"} == stage.task.fetchers
    stage.say("n1", WANTED)
    assert ([], {"n2"}) == (stage.asked, stage.task.fetchers)


def test_a_renewed_credential_is_used(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.say("n1", OTHER)
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]


def test_new_demand_after_a_failure_tries_again(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.fails("SourceUnusable")
    stage.say("n1", WANTED)
    assert 1 == len(stage.leases)  # the same pull still waits
    stage.say("n1")
    stage.say("n1", WANTED)
    assert 2 == len({lease.attempt for lease in stage.leases})


def test_another_credential_needs_the_registrys_consent_which_counts_for_a_while(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n2", OTHER)
    assert ([TWO], {"n1"}) == (stage.asked, stage.task.fetchers)
    stage.proves(TWO, True)
    assert {"n1", "n2"} == stage.task.fetchers
    stage.say("n2")
    assert ({"n1"}, {"n1", "n2"}) == (stage.task.fetchers, stage.task.keepers)
    stage.now += SECONDS - 1
    stage.say("n2", OTHER)
    assert ([], {"n1", "n2"}) == (stage.asked, stage.task.fetchers)
    stage.say("n2")
    stage.now += 2
    stage.say("n2", OTHER)
    assert ([TWO], {"n1"}) == (stage.asked, stage.task.fetchers)


def test_c1_a_refused_client_is_not_admitted_and_not_asked_about_again(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n2", OTHER)
    stage.proves(TWO, False)
    stage.say("n2")
    stage.now += SECONDS - 1
    stage.say("n2", OTHER)
    stage.arrives(whole=True)
    assert ([], {"n1"}) == (stage.asked, stage.task.keepers)


def test_an_existing_copy_needs_the_consent_for_the_first_peer_too(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives(whole=True, of=replace(ONE, client=""))
    assert ([ONE], set()) == (stage.asked, stage.task.fetchers)
    stage.proves(ONE, True)
    assert {"n1"} == stage.task.fetchers


def test_bytes_that_were_sent_for_another_client_are_no_evidence(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.say("n2", OTHER)
    stage.say("n1")
    stage.say("n2", OTHER)
    stage.arrives(of=ONE)
    assert ([TWO], set()) == (stage.asked, stage.task.fetchers)


def test_c1_wrong_bytes_give_no_right_to_the_right_ones(stage: Stage) -> None:
    stage.say("n2", LIAR)
    stage.arrives(generation="lie")
    assert {"n2"} == stage.task.fetchers  # it may have what its own registry sends
    stage.say("n1", WANTED)
    assert {"n2"} == stage.task.fetchers
    stage.fails("DigestMismatch")
    assert set() == stage.task.fetchers | stage.task.keepers
    assert URL == stage.leases[-1].source.url  # type: ignore[union-attr]
    stage.arrives()
    stage.arrives(whole=True)
    assert ({"n1"}, {"n1"}) == (stage.task.fetchers, stage.task.keepers)
    stage.say("n2", LIAR)
    stage.say("n2")
    stage.now += SECONDS - 1
    stage.say("n2", LIAR)
    assert ({"n1"}, [], []) == (stage.task.fetchers, stage.asked, stage.proved)


def test_c1_a_repository_that_has_not_sent_a_blob_must_send_all_of_it(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n2", LIAR)
    assert ([], []) == (stage.asked, stage.proved)
    stage.arrives(whole=True)
    assert ([], [LIE], {"n1"}) == (stage.asked, stage.proved, stage.task.fetchers)
    stage.rights.grant(stage.rights.subject("liar.example/a", "Bearer liar"), DIGEST, EvidenceKind.ALLOWED, stage.now)
    stage.rights.grant(
        stage.rights.subject("liar.example/a", "Bearer liar"), DIGEST, EvidenceKind.ALLOWED, stage.now, generation="g"
    )
    stage.blobs.on_evidence(NAME)
    assert {"n1"} == stage.task.fetchers
    stage.shows(origins=(ONE.origin, LIE.origin))
    assert {"n1", "n2"} == stage.task.fetchers


def test_m7_a_silent_source_loses_its_turn_to_an_honest_one(stage: Stage) -> None:
    stage.say("n2", *[LIAR])
    stage.say("n1", WANTED)
    stage.now += 1
    stage.blobs.tick()
    assert LIE.url == stage.leases[-1].source.url  # type: ignore[union-attr]
    stage.now += 1
    stage.blobs.tick()
    assert URL == stage.leases[-1].source.url  # type: ignore[union-attr]
    stage.now += 3
    stage.blobs.tick()
    assert URL == stage.leases[-1].source.url  # type: ignore[union-attr]


def test_m7_a_source_that_makes_progress_keeps_its_turn(stage: Stage) -> None:
    stage.say("n2", LIAR)
    stage.say("n1", WANTED)
    for _ in range(10):
        stage.now += 1
        stage.received += 1024 * 1024
        stage.blobs.tick()
    assert LIE.url == stage.leases[-1].source.url  # type: ignore[union-attr]


def test_m7_the_repositories_of_one_peer_have_one_turn_together(stage: Stage) -> None:
    stage.blobs.ask("n2", LIAR, lambda _: None)
    for number in range(20):
        stage.blobs.ask("n2", replace_repository(f"a{number}"), lambda _: None)
    stage.say("n1", WANTED)
    stage.fails("DigestMismatch")
    assert URL == stage.leases[-1].source.url  # type: ignore[union-attr]


def replace_repository(name: str) -> WantedBlob:
    return WantedBlob("liar.example", name, DIGEST, credential="Bearer liar")


def test_m7_the_late_failure_of_another_client_is_not_blamed_on_the_present_one(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.say("n1", OTHER)
    stage.shows(failed_source=ONE, failure=Failure("SourceUnauthorized", "no", final=True), status=CDNStatus.FAILED)
    stage.say("n1", OTHER)
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]
    stage.arrives()
    assert {"n1"} == stage.task.fetchers


def test_a_question_is_answered_once_there_is_evidence(stage: Stage) -> None:
    answers: list[Right | None] = []
    stage.blobs.ask("n1", WANTED, answers.append)
    assert 1 == len(stage.leases)
    stage.arrives()
    assert [("g", stage.now + SECONDS)] == [(right.generation, right.until) for right in answers if right]
    stage.blobs.ask("n1", OTHER, answers.append)
    assert 1 == len(answers)
    stage.proves(TWO, False)
    assert [None] == answers[1:]
    stage.blobs.ask("n2", OTHER, answers.append)
    assert [None, None] == answers[1:]


def test_a_blob_is_kept_after_its_demand_but_an_incomplete_one_only_for_a_minute(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n1")
    assert stage.task.lease is not None
    assert stage.now + 60 == stage.task.lease.until
    stage.arrives(whole=True)
    assert stage.now + KEPT == stage.task.lease.until
    stage.now += KEPT
    changed = stage.managers.tasks.expire(now=stage.now)
    assert (frozenset({NAME}), frozenset({"n1"})) == (changed.retired, changed.peers)
    assert frozenset() == stage.managers.tasks.kept_by("n1")


def test_a_lease_lasts_while_a_peer_waits(stage: Stage) -> None:
    stage.say("n1", WANTED)
    for _ in range(3):
        stage.now += 50
        stage.blobs.tick()
        assert set() == stage.managers.tasks.expire(now=stage.now).retired
    stage.managers.peers.update("n1", connected=False)
    stage.blobs.tick()
    stage.now += 61
    assert {NAME} == stage.managers.tasks.expire(now=stage.now).retired


def test_further_pieces_of_a_copy_cost_nothing_for_each_waiting_peer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.say("n1", WANTED)
    stage.say("n2", OTHER)
    stage.arrives()
    decided: list[object] = []
    monkeypatch.setattr(stage.blobs, "_right", lambda *about: decided.append(about))
    for pieces in (3, 7, 15):
        stage.shows(cached=pieces)
    assert [] == decided
    stage.shows(status=CDNStatus.SUCCESS)
    assert 1 == len(decided)


def test_a_peer_that_lost_its_pieces_keeps_none(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.blobs.take_inventory("n1", [])
    assert {"n1"} == stage.task.keepers  # it waits for it
    stage.say("n1")
    stage.blobs.take_inventory("n1", [NAME])
    assert {"n1"} == stage.task.keepers
    stage.blobs.take_inventory("n1", [])
    assert set() == stage.task.keepers


def test_an_idle_blob_is_released_for_room(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives(whole=True)
    assert not stage.blobs.release_idle()
    stage.say("n1")
    assert stage.blobs.release_idle()
    assert None is stage.managers.tasks.get(NAME)
    assert not stage.blobs.release_idle()


def test_a_peer_that_asks_for_ever_more_blobs_takes_no_more_memory(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_KEPT", 8)
    stage.say("n2", WANTED)
    digests = [f"sha256:{number:064x}" for number in range(100)]
    for digest in digests:
        stage.now += 1.0
        stage.say("n1", msgspec.structs.replace(WANTED, digest=digest))
    left = {task.id for task in stage.managers.tasks}
    assert {NAME, *(task_id.of_blob(digest) for digest in digests[-5:])} <= left
    assert 10 >= len(left)


def restored(*, idle: float = 10.0) -> Stage:
    """Another process's stage, on the same volume, which is not read yet."""
    stage = Stage(stated=False)
    stage.blobs.restore([KeptBlob(DIGEST, "g", idle)])
    return stage


def test_whole_blobs_are_recorded_for_the_next_process(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    assert () == stage.blobs.kept()
    stage.arrives(whole=True)
    stage.now += 30
    assert (KeptBlob(DIGEST, "g", 0.0),) == stage.blobs.kept()
    stage.say("n1")
    stage.now += 40
    assert (KeptBlob(DIGEST, "g", 40.0),) == stage.blobs.kept()
    stage.managers.tasks.expire(now=stage.now + KEPT)
    assert () == stage.blobs.kept()


def test_a_restored_blob_keeps_its_time_and_is_not_fetched() -> None:
    stage = restored(idle=400.0)
    assert [None] == [lease.source for lease in stage.leases]
    assert stage.task.suspended
    assert (KeptBlob(DIGEST, "g", 400.0),) == stage.blobs.kept()
    stage.state()
    stage.arrives(whole=True)
    stage.blobs.on_volume_read()
    stage.now += 599
    stage.blobs.tick()
    assert frozenset() == stage.managers.tasks.expire(now=stage.now).retired
    assert (KeptBlob(DIGEST, "g", 999.0),) == stage.blobs.kept()
    stage.now += 1
    assert {NAME} == stage.managers.tasks.expire(now=stage.now).retired


def test_an_expired_blob_is_not_restored() -> None:
    assert None is restored(idle=KEPT).managers.tasks.get(NAME)
    assert 100.0 + KEPT == restored(idle=-5.0).task.lease.until  # type: ignore[union-attr]


def test_a_peer_with_the_generation_of_a_restored_blob_keeps_its_pieces() -> None:
    stage = restored()
    stage.blobs.take_holdings("n1", {NAME: ("g", 1), "0" * 64: ("g", 1)})
    stage.blobs.take_holdings("n2", {NAME: ("other", 1)})
    assert ({"n1"}, set()) == (stage.task.keepers, stage.task.fetchers)
    stage.blobs.take_inventory("n1", [])
    assert set() == stage.task.keepers


def test_holdings_count_for_restored_blobs_only(stage: Stage) -> None:
    stage.say("n1", WANTED)
    stage.arrives(whole=True)
    stage.blobs.take_holdings("n2", {NAME: ("g", 1)})
    assert {"n1"} == stage.task.keepers


def test_a_restored_blob_needs_the_consent_of_its_registry() -> None:
    stage = restored()
    stage.blobs.take_holdings("n1", {NAME: ("g", 1)})
    stage.state()
    stage.say("n1", WANTED)
    assert not stage.task.suspended
    stage.arrives(whole=True, of=replace(ONE, client=""))
    assert ([ONE], set()) == (stage.asked, stage.task.fetchers)
    stage.proves(ONE, False)
    assert set() == stage.task.fetchers
    stage.say("n2", OTHER)
    stage.proves(TWO, True)
    assert {"n2"} == stage.task.fetchers


def test_a_restored_blob_that_the_volume_lost_is_released_without_demand() -> None:
    stage = restored()
    stage.blobs.on_volume_read()
    assert None is stage.managers.tasks.get(NAME)
    stage = restored()
    stage.state()
    stage.say("n1", WANTED)
    stage.blobs.on_volume_read()
    assert (URL, ()) == (stage.task.lease.source.url, stage.blobs.kept())  # type: ignore[union-attr]


def test_restored_blobs_are_released_for_room_too() -> None:
    stage = restored()
    assert stage.blobs.release_idle()
    assert None is stage.managers.tasks.get(NAME)


def test_only_an_order_lets_a_blob_be_read_with_the_identity_of_the_pod(stage: Stage) -> None:
    image = f"registry.example/team/app:1@{DIGEST}"
    wanted = WantedImage("ns/web", image, orders={"n1": PullOrder("run", 1, timeout=60)})
    stage.images.take(Statement(2, images=(wanted,)))
    stage.choice = (POD_IDENTITY,)
    stage.say("n1", WantedBlob("registry.example", "team/app", DIGEST, order="ns/web"))
    (lease,) = stage.leases
    assert lease.source is not None
    assert (True, {}) == (lease.source.pod_identity, lease.source.headers)


def test_a_peers_own_credentials_are_never_the_identity_of_the_pod(stage: Stage) -> None:
    stage.choice = (POD_IDENTITY,)
    stage.say("n1", WANTED)
    (lease,) = stage.leases
    assert lease.source is not None
    assert not lease.source.pod_identity
