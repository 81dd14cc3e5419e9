"""Evidence for rights to the blobs of registries, and the records of the blobs."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_pieces import records
from pantala_protocol.rules.rights import BlobClaim, HeldBlob, Rights, Ruling, rule
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import SourceForbiddenError, SourceInterruptedError
from pantala_supernode.images import evidence
from pantala_supernode.images.blob import KeptBlob, Offer
from pantala_supernode.images.evidence import EvidenceFinder
from pantala_supernode.images.ledger import BlobLedger
from pantala_supernode.origin.body import ChunkBody
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.tasks.copy import Copy, FileSource
from tests.unit.supernode.conftest import Clock

TASK = TaskID("a" * 64)
BLOB = random.Random(2).randbytes(3020)
NAME = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
OTHER_REPOSITORY = "registry.example/b"


def url_of(repository: str) -> str:
    registry, _, name = repository.partition("/")
    return f"https://{registry}/v2/{name}/blobs/{NAME}"


class Registry:
    """Gives ``data``, or its end, in small chunks. ``opens``: the credentials for each repository."""

    def __init__(self) -> None:
        self.data = BLOB
        self.error: Exception | None = None
        self.hangs = False
        self.opens: dict[str, set[str]] = {}
        self.asked: list[tuple[str, str, Resume | None]] = []
        self.running = self.most = 0

    @contextlib.asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        shown = source.headers.get("Authorization", "")
        self.asked.append((source.url, shown, resume))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.hangs:
                await asyncio.sleep(10_000)
            if self.error is not None:
                raise self.error
            if not {shown, ""} & self.opens.get(source.url, {""}):
                raise SourceForbiddenError("no")
            offset = resume.offset if resume is not None else 0

            async def chunks() -> AsyncIterator[bytes]:
                for start in range(offset, len(self.data), 700):
                    yield self.data[start : start + 700]

            yield Answer(len(self.data), offset, "", "", True, ChunkBody(chunks()))
        finally:
            self.running -= 1


class Bench:
    """A whole copy of a blob from registry.example/a, and claims on it."""

    def __init__(self) -> None:
        self.clock = Clock(1000.0)
        self.rights = Rights(b"key")
        self.registry = Registry()
        self.copy = Copy(TASK, generation="g", length=len(BLOB), cached=1, origins=("registry.example/a",))
        self.answered: list[str] = []
        self.evidence = EvidenceFinder(self.registry, RegistryEndpoints(), self.rights, self.vouch, clock=self.clock)
        self.vouched: list[str] = []

    async def vouch(self, task: TaskID, generation: str, origin: str) -> None:
        assert (TASK, "g") == (task, generation)
        self.vouched.append(origin)

    def offer(self, repository: str = "registry.example/a", credential: str = "Basic x") -> Offer:
        source = FileSource(url_of(repository), {"Authorization": credential} if credential else {}, NAME)
        return Offer(source, BlobClaim(repository, NAME, self.rights.subject(repository, credential)))

    def ruling(self, offer: Offer) -> Ruling:
        held = HeldBlob("g", (*self.copy.origins, *self.vouched), whole=True)
        return rule(self.rights, offer.claim, held, self.clock())

    async def find(self, offer: Offer) -> Ruling:
        """Find evidence, and rule again."""
        self.evidence.find(self.copy, offer, self.ruling(offer), self.answered.append)
        await asyncio.gather(*self.evidence._running.values())
        return self.ruling(offer)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_repository_that_sent_a_blob_is_asked_for_one_byte(bench: Bench) -> None:
    assert Ruling.GIVE is await bench.find(bench.offer())
    assert [(url_of("registry.example/a"), "Basic x", Resume(3019, 3020, "", "g"))] == bench.registry.asked
    assert [TASK] == bench.answered


async def test_c1_a_refusal_of_the_registry_is_remembered(bench: Bench) -> None:
    bench.registry.opens[url_of("registry.example/a")] = {"Basic good"}
    assert Ruling.REFUSE is await bench.find(bench.offer())
    assert Ruling.GIVE is await bench.find(bench.offer(credential="Basic good"))


@pytest.mark.parametrize("length", [0, 5, 3019, 3021])
async def test_c1_a_page_to_log_in_is_not_a_consent(bench: Bench, length: int) -> None:
    bench.registry.data = bytes(length)
    assert Ruling.ASK is await bench.find(bench.offer())
    asked = len(bench.registry.asked)
    await bench.find(bench.offer())
    assert asked == len(bench.registry.asked)  # only after a pause
    bench.clock.now += evidence._PAUSE
    bench.registry.data = BLOB
    assert Ruling.GIVE is await bench.find(bench.offer())


async def test_another_registry_must_send_the_whole_blob(bench: Bench) -> None:
    other = bench.offer("other.example/a", "Basic x")
    assert Ruling.GIVE is await bench.find(other)
    assert ([(other.source.url, "Basic x", None)], ["other.example/a"]) == (bench.registry.asked, bench.vouched)


@pytest.mark.parametrize(
    "sent", [b"", bytes(3020), BLOB[:-1], BLOB + b"x", BLOB[:-1] + b"x", BLOB[:1500] + bytes(1520)]
)
async def test_c1_anything_but_the_whole_blob_proves_nothing(bench: Bench, sent: bytes) -> None:
    bench.registry.data = sent
    other = bench.offer("other.example/a", "")
    assert Ruling.REFUSE is await bench.find(other)
    assert [] == bench.vouched
    another = bench.ruling(bench.offer("other.example/a", "Basic another"))
    assert Ruling.PROVE is another, "a credential that gets other bytes refuses no other client"


async def test_a_cut_answer_is_read_again_after_a_pause(bench: Bench) -> None:
    bench.registry.error = SourceInterruptedError("cut")
    other = bench.offer("other.example/a")
    assert Ruling.PROVE is await bench.find(other)
    bench.registry.error = None
    assert Ruling.PROVE is await bench.find(other)
    bench.clock.now += evidence._PAUSE
    assert Ruling.GIVE is await bench.find(other)


async def test_a_public_layer_is_not_read_again_for_another_repository_of_its_registry(bench: Bench) -> None:
    assert Ruling.GIVE is await bench.find(bench.offer(OTHER_REPOSITORY, "Bearer x"))
    assert Ruling.GIVE is bench.ruling(bench.offer(OTHER_REPOSITORY, "Bearer y"))
    assert [(url_of("registry.example/a"), "")] == [asked[:2] for asked in bench.registry.asked]
    assert [] == bench.vouched


async def test_a_client_of_both_repositories_does_not_cost_another_read(bench: Bench) -> None:
    bench.registry.opens[url_of("registry.example/a")] = {"Basic both"}
    assert Ruling.GIVE is await bench.find(bench.offer(OTHER_REPOSITORY, "Basic both"))
    assert [] == bench.vouched
    bench.registry.opens[url_of(OTHER_REPOSITORY)] = {"Basic both", "Basic b"}
    assert Ruling.GIVE is await bench.find(bench.offer(OTHER_REPOSITORY, "Basic b"))
    assert [OTHER_REPOSITORY] == bench.vouched


async def test_c1_no_question_goes_to_the_origin_of_another_registry(bench: Bench) -> None:
    bench.registry.data = bytes(3020)
    await bench.find(bench.offer("liar.example/a", "Basic secret of liar"))
    assert {url_of("liar.example/a")} == {url for url, _, _ in bench.registry.asked}


@pytest.mark.virtual_time
async def test_m7_one_slow_registry_leaves_places_for_the_others(bench: Bench) -> None:
    bench.registry.hangs = True
    for number in range(20):
        offer = bench.offer(f"liar.example/{number}", "")
        bench.evidence.find(bench.copy, offer, Ruling.PROVE, bench.answered.append)
    await asyncio.sleep(1)
    assert evidence._READS_OF_ONE == bench.registry.running
    bench.registry.hangs = False
    assert Ruling.GIVE is await asyncio.wait_for(_found(bench, bench.offer("honest.example/a")), 5)
    await bench.evidence.close()


async def _found(bench: Bench, offer: Offer) -> Ruling:
    bench.evidence.find(bench.copy, offer, Ruling.PROVE, bench.answered.append)
    await bench.evidence._running[offer.claim.client, "g"]
    return bench.ruling(offer)


async def test_a_silent_registry_leaves_questions_for_the_others(bench: Bench) -> None:
    bench.registry.hangs = True
    silent = [f"silent.example/{number}" for number in range(100)]
    for repository in silent:
        bench.evidence.find(bench.copy, bench.offer(repository), Ruling.ASK, bench.answered.append)
    await asyncio.sleep(0.05)
    bench.registry.hangs = False
    asked = bench.offer()
    bench.evidence.find(bench.copy, asked, Ruling.ASK, bench.answered.append)
    await asyncio.wait_for(bench.evidence._running[asked.claim.client, "g"], 5)
    assert Ruling.GIVE is bench.ruling(asked)
    await bench.evidence.close()


async def test_equal_questions_are_asked_once_and_end_with_close(bench: Bench) -> None:
    bench.registry.hangs = True
    for _ in range(3):
        bench.evidence.find(bench.copy, bench.offer(), Ruling.ASK, bench.answered.append)
    await asyncio.sleep(0.01)
    assert 1 == len(bench.registry.asked)
    await bench.evidence.close()
    assert ([], {}) == (bench.answered, bench.evidence._running)


LOOK = 1.5
"""Seconds in which the ledger looks at the blobs once."""
DIGEST, OTHER = "sha256:" + "a" * 64, "sha512:" + "b" * 128


class Leases:
    def __init__(self, *kept: KeptBlob) -> None:
        self.blobs = kept

    def kept(self) -> tuple[KeptBlob, ...]:
        return self.blobs

    def restore(self, kept: tuple[KeptBlob, ...]) -> None:
        self.blobs = kept


def ledger(path: Path, leases: Leases, clock: Clock) -> BlobLedger:
    return BlobLedger(path, leases, wall=clock)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@contextlib.asynccontextmanager
async def running(made: BlobLedger) -> AsyncIterator[None]:
    task = asyncio.create_task(made.run())
    try:
        yield
        await asyncio.sleep(LOOK)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.virtual_time
async def test_the_next_process_learns_when_each_blob_was_wanted(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 5.0), KeptBlob(OTHER, "h", 0.0)), clock)):
        pass
    clock.now += 60
    leases = Leases()
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 65.0), KeptBlob(OTHER, "h", 60.0)) == leases.blobs


@pytest.mark.virtual_time
async def test_only_changes_are_written(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blobs.json"
    leases = Leases(KeptBlob(DIGEST, "g", 0.0))
    async with running(ledger(path, leases, clock)):
        await asyncio.sleep(LOOK)
        first = path.stat()
        clock.now += 59
        await asyncio.sleep(LOOK)
        assert first.st_ino == path.stat().st_ino
        clock.now += 1
        await asyncio.sleep(LOOK)
        assert first.st_ino != path.stat().st_ino
        second = path.stat()
        leases.blobs = (KeptBlob(DIGEST, "another", 0.0),)
        await asyncio.sleep(LOOK)
        assert second.st_ino != path.stat().st_ino
        assert b"another" in path.read_bytes()
        leases.blobs = ()
    assert {} == records.load(path, dict)


@pytest.mark.virtual_time
async def test_the_last_change_is_written(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 0.0)), clock)):
        await asyncio.sleep(LOOK)
        clock.now += 30
    leases = Leases()
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 0.0),) == leases.blobs


@pytest.mark.virtual_time
async def test_a_failed_write_is_retried(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "missing" / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 0.0)), clock)):
        await asyncio.sleep(LOOK)
        assert not path.exists()
        path.parent.mkdir()
        await asyncio.sleep(61)
        assert path.exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"sha256:0":{"generation":"g","wanted":9e99}}'])
@pytest.mark.virtual_time
async def test_an_unreadable_record_is_empty(tmp_path: Path, clock: Clock, content: bytes | None) -> None:
    path = tmp_path / "blobs.json"
    path.mkdir() if content is None else path.write_bytes(content)
    leases = Leases(KeptBlob(DIGEST, "g", 0.0))
    await ledger(path, leases, clock).restore()
    assert () == leases.blobs


@pytest.mark.virtual_time
async def test_an_invalid_entry_is_left_out(tmp_path: Path, clock: Clock) -> None:
    path, leases = tmp_path / "blobs.json", Leases()
    path.write_text(f'{{"{DIGEST}":{{"generation":"g","wanted":999999.0}},"../x":{{"generation":"g","wanted":1.0}}}}')
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 1.0),) == leases.blobs
