"""A real supernode is killed: nodes keep their images' blobs, and no blob is read from its registry again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from pantala_peer.app import PeerApp
from pantala_pieces import records
from pantala_pieces.records import RecordError
from pantala_protocol import task_id
from pantala_protocol.sync import SyncAnswer, SyncRequest, WantedBlob
from testbed import image as images
from testbed import registry as testbed_registry
from testbed.image import Image, Layer
from testbed.registry import Registry
from tests.support.eventually import eventually
from tests.support.peer_lab import mirror
from tests.support.registry_images import SHOWN, largest, of_amd64, pull, registry_of, sent
from tests.support.scripted_images import get
from tests.support.supernode_lab import SupernodeProcess

pytestmark = pytest.mark.skipif(
    not testbed_registry.installed(), reason="docker-registry is not installed: apt-get install docker-registry"
)
PROOF = 64
"""The bytes of a blob that are read from a registry as a proof."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    layers = [Layer(5_000_000, seed=11), Layer(70_000, seed=12)]
    return images.build(tmp_path_factory.mktemp("image"), layers, platforms=["linux/amd64"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, image: Image) -> Iterator[Registry]:
    with registry_of(image, tmp_path_factory.mktemp("registry"), private=True) as registry:
        yield registry


@pytest.fixture
def registry(running: Registry) -> Registry:
    """A registry that has the image, with an empty log."""
    running.forget()
    return running


@pytest.fixture
async def supernode(tmp_path: Path) -> AsyncIterator[SupernodeProcess]:
    async with SupernodeProcess(tmp_path / "supernode") as made:
        made.data.mkdir(parents=True)
        await made.start()
        await made.state()
        yield made


def kept(supernode: SupernodeProcess) -> dict[str, dict[str, object]]:
    """The supernode's record of blobs on its volume."""
    with contextlib.suppress(FileNotFoundError, RecordError):
        return dict(records.load(supernode.data / "blobs.json", dict[str, dict[str, object]]))
    return {}


def folder(supernode: SupernodeProcess, digest: str) -> Path:
    name = task_id.of_blob(digest)
    return supernode.data / "tasks" / name[:2] / name


async def restarted(supernode: SupernodeProcess, *peers: PeerApp) -> None:
    """Wait until it runs again, and the nodes have received their assignments."""
    sessions = [lane.session for peer in peers for lane in peer.supernodes._links.values()]
    former = {session.supernode for session in sessions}
    assert "" not in former, "each spoke before"
    await supernode.start()
    await supernode.state()
    await eventually(supernode.is_ready)
    if sessions:
        await eventually(lambda: all(one.supernode not in former and one.revision for one in sessions))
        await asyncio.sleep(0.5)  # time to drop blobs


def blobs(image: Image) -> set[str]:
    return {task_id.of_blob(digest) for digest in of_amd64(image)}


async def test_after_a_kill_the_next_node_costs_only_a_proof_from_the_registry(
    supernode: SupernodeProcess, registry: Registry, image: Image, tmp_path: Path
) -> None:
    async with (
        mirror(supernode.url, tmp_path / "n1", "n1", grace=0.2) as one,
        mirror(supernode.url, tmp_path / "n2", "n2", grace=0.2) as other,
    ):
        await pull(one, registry, image, shown=SHOWN)
        await eventually(lambda: of_amd64(image).keys() == kept(supernode).keys())
        assert of_amd64(image) == await sent(registry)
        for _ in range(2):
            supernode.kill()
            await restarted(supernode, one, other)
            assert blobs(image) <= one.cache.tasks()
        registry.forget()
        assert 401 == (await get(other.mirror.port, f"/v2/team/app/manifests/{image.digest}?ns={registry.host}"))[0]
        await pull(other, registry, image, shown=SHOWN)
        shown = await sent(registry)
        assert of_amd64(image).keys() == shown.keys()
        assert all(0 < count <= PROOF for count in shown.values()), shown
    assert "secret" not in (supernode.data / "blobs.json").read_text()
    assert SHOWN.split()[1] not in (supernode.data / "blobs.json").read_text()


async def test_a_node_that_waits_during_a_kill_keeps_its_blobs(supernode: SupernodeProcess, registry: Registry) -> None:
    """The node's first request to the new process has only its wanted blobs. The next one has its inventory."""
    wanted: dict[str, WantedBlob] = {
        task_id.of_blob("sha256:" + "0" * 64): WantedBlob(registry.host, "team/app", "sha256:" + "0" * 64)
    }
    said = SyncRequest("n1", "boot", 7, supernode="another one", revision=3, port=1, wants=wanted)
    url, body = f"{supernode.url}/api/v1/sync", msgspec.json.encode(said)
    async with supernode.session.post(url, data=body) as reply:
        answer = msgspec.json.decode(await reply.read(), type=SyncAnswer)
    assert (True, None) == (answer.inventory_wanted, answer.assignments)
    said = msgspec.structs.replace(said, seq=8, supernode=answer.supernode, revision=0, inventory={})
    async with supernode.session.post(url, data=msgspec.json.encode(said)) as reply:
        answer = msgspec.json.decode(await reply.read(), type=SyncAnswer)
    assert (False, ()) == (answer.inventory_wanted, answer.assignments)


async def test_leases_can_expire(supernode: SupernodeProcess, registry: Registry, image: Image, tmp_path: Path) -> None:
    async with mirror(supernode.url, tmp_path / "n1", "n1", grace=0.2) as one:
        await pull(one, registry, image, shown=SHOWN)
        await eventually(lambda: of_amd64(image).keys() == kept(supernode).keys())
        supernode.kill()
        layer, size = largest(image)
        entries = kept(supernode)
        entries[layer]["wanted"] = time.time() - 21_601
        records.store_pair(supernode.data / "blobs.json", entries)
        await restarted(supernode, one)
        await eventually(lambda: task_id.of_blob(layer) not in one.cache.tasks())
        assert blobs(image) - {task_id.of_blob(layer)} <= one.cache.tasks()
        await eventually(lambda: not folder(supernode, layer).exists())
        await eventually(lambda: layer not in kept(supernode))
        registry.forget()
        await pull(one, registry, image, shown=SHOWN)
        assert size <= (await sent(registry))[layer]


@pytest.mark.parametrize("harm", ["changed", "deleted"])
async def test_a_damaged_blob_on_the_volume_is_never_served(
    supernode: SupernodeProcess, registry: Registry, image: Image, tmp_path: Path, harm: str
) -> None:
    layer, size = largest(image)
    async with (
        mirror(supernode.url, tmp_path / "n1", "n1", grace=0.2) as one,
        mirror(supernode.url, tmp_path / "n2", "n2", grace=0.2) as other,
    ):
        await pull(one, registry, image, shown=SHOWN)
        await eventually(lambda: of_amd64(image).keys() == kept(supernode).keys())
        supernode.kill()
        if harm == "deleted":
            for path in folder(supernode, layer).iterdir():
                path.unlink()
        else:
            with (folder(supernode, layer) / "data").open("r+b") as data:
                data.seek(size // 2)
                byte = data.read(1)
                data.seek(size // 2)
                data.write(bytes([byte[0] ^ 1]))
        await restarted(supernode, one, other)
        registry.forget()
        await pull(other, registry, image, shown=SHOWN)  # it checks each digest
        again = (await sent(registry))[layer]
    if harm == "deleted":
        assert size <= again <= size + PROOF
    else:
        assert PROOF < again < size / 2
