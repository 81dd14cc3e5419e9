"""Several real supernodes and nodes with mirrors: each blob is read once from its registry, also after a kill."""

import asyncio
import contextlib
import hashlib
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from pantala_peer.app import PeerApp
from pantala_peer.mirror.deadlines import Deadlines
from pantala_pieces import records
from pantala_protocol import task_id
from pantala_protocol.statement import Member, Membership
from testbed import image as images
from testbed import registry as testbed_registry
from testbed.image import Image, Layer
from testbed.registry import Registry
from tests.support.eventually import eventually
from tests.support.peer_lab import mirror
from tests.support.registry_images import SHOWN, largest, of_amd64, pull, pull_manifests, registry_of, sent
from tests.support.scripted_images import asked, get
from tests.support.supernode_lab import SupernodeProcess

pytestmark = pytest.mark.skipif(
    not testbed_registry.installed(), reason="docker-registry is not installed: apt-get install docker-registry"
)
PROOFS = 2 * 64
"""The most bytes of a blob that two supernodes read from a registry as a proof."""
HURRIED = Deadlines(manifest=4.0, small=4.0, blob=5.0, again=1.0, stall=2.0)
REVISIONS = itertools.count(1)


class Ring:
    """Some supernodes' processes, their operator and their nodes."""

    def __init__(self, supernodes: list[SupernodeProcess], folder: Path, peers: contextlib.AsyncExitStack) -> None:
        self.supernodes = supernodes
        self.members = [Member(f"s-{number}", one.url) for number, one in enumerate(supernodes)]
        self._folder = folder
        self._peers = peers

    async def state(self, *members: Member) -> None:
        """State the membership to all running supernodes: all of them, or ``members``."""
        membership = Membership(next(REVISIONS), members or tuple(self.members))
        for member, supernode in zip(self.members, self.supernodes, strict=True):
            if supernode.process is not None:
                await supernode.state(membership=membership, member=member.name)

    async def peer(self, name: str) -> PeerApp:
        """A node that starts with the first supernode's address, once it is connected to all."""
        url, root = self.supernodes[0].url, self._folder / name
        made = await self._peers.enter_async_context(mirror(url, root, name, mirror_deadlines=HURRIED, grace=0.2))
        await eventually(lambda: self._is_connected(made))
        return made

    def _is_connected(self, peer: PeerApp) -> bool:
        lanes = peer.supernodes._links
        return len(lanes) > 1 and not any(lane.client.error for lane in lanes.values())

    def owner(self, name: str, *members: Member) -> int:
        """The number of the supernode that a task belongs to."""
        owner = Membership(1, members or tuple(self.members)).owner(name)
        assert owner is not None
        return int(owner.name.removeprefix("s-"))

    def kept(self, number: int) -> set[str]:
        """The blobs in a supernode's record on its volume."""
        with contextlib.suppress(FileNotFoundError):
            return set(records.load(self.supernodes[number].data / "blobs.json", dict))
        return set()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    layers = [Layer(6_000_000, seed=21), *(Layer(300_000, seed=number) for number in range(22, 29))]
    return images.build(tmp_path_factory.mktemp("image"), layers, platforms=["linux/amd64"])


@pytest.fixture
def registry(tmp_path: Path, image: Image) -> Iterator[Registry]:
    with registry_of(image, tmp_path / "registry", private=True) as registry:
        yield registry


@pytest.fixture
async def ring(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Ring]:
    flags = getattr(request, "param", ())
    supernodes = [SupernodeProcess(tmp_path / f"s-{number}", *flags) for number in range(3)]
    async with contextlib.AsyncExitStack() as stack, contextlib.AsyncExitStack() as peers:
        for supernode in supernodes:
            await stack.enter_async_context(supernode)
        await asyncio.gather(*(supernode.start() for supernode in supernodes))
        made = Ring(supernodes, tmp_path, peers)
        await made.state()
        yield made
        await peers.aclose()


def manifests(registry: Registry) -> Counter[str]:
    """How often each manifest was read."""
    return Counter(
        access.path.rpartition("/")[2]
        for access in registry.requests()
        if access.method == "GET" and access.status == 200 and "/manifests/" in access.path
    )


def once(image: Image, sent: dict[str, int]) -> bool:
    """Whether each blob was sent once, except for the proofs."""
    sizes = of_amd64(image)
    return sizes.keys() == sent.keys() and all(size <= sent[digest] <= size + PROOFS for digest, size in sizes.items())


async def test_pulls_from_several_supernodes_cost_one_read(ring: Ring, registry: Registry, image: Image) -> None:
    one, other = await ring.peer("n1"), await ring.peer("n2")
    await asyncio.gather(*(pull(node, registry, image, shown=SHOWN) for node in (one, other)))
    assert 1 < len({ring.owner(task_id.of_blob(digest)) for digest in of_amd64(image)})
    assert once(image, await sent(registry)), await sent(registry)
    assert {image.digest: 1, image.manifests["linux/amd64"]: 1} == dict(manifests(registry))


async def test_a_supernode_that_joins_takes_blobs_from_the_others(ring: Ring, registry: Registry, image: Image) -> None:
    two = tuple(ring.members[:2])
    await ring.state(*two)
    one = await ring.peer("n1")
    await eventually(lambda: {"s-0", "s-1"} == one.supernodes._links.keys())
    await pull(one, registry, image, shown=SHOWN)
    moved = {digest for digest in of_amd64(image) if 2 == ring.owner(task_id.of_blob(digest))}
    assert moved
    await ring.state()
    other = await ring.peer("n2")
    await eventually(lambda: 3 == len(one.supernodes._links) == len(other.supernodes._links))
    await pull(other, registry, image, shown=SHOWN)
    assert once(image, await sent(registry)), await sent(registry)
    await eventually(lambda: moved <= ring.kept(2))


@pytest.mark.parametrize("ring", [("--origin-rate", "3M")], indirect=True)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_byte_is_right_after_random_kills(ring: Ring, registry: Registry, image: Image, seed: int) -> None:
    """Each node continues as containerd does: it reads the rest of a blob from the registry."""
    chance, sizes = random.Random(seed), of_amd64(image)
    nodes = [await ring.peer("n1"), await ring.peer("n2")]
    for node in nodes:
        await pull_manifests(node, registry, image, shown=SHOWN)

    async def pull_all(node: PeerApp) -> int:
        digests = chance.sample(sorted(sizes), len(sizes))
        return sum([await _as_containerd(node, registry, digest, sizes[digest]) for digest in digests])

    pulls = [asyncio.create_task(pull_all(node)) for node in nodes]
    for _ in range(2):
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        victim = chance.choice(ring.supernodes)
        victim.kill()
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        await victim.start()
        await ring.state()
    async with asyncio.timeout(30):
        await asyncio.gather(*pulls)
    await eventually(lambda: all(map(ring._is_connected, nodes)))

    async def from_mirrors() -> int:
        return sum(await asyncio.gather(*map(pull_all, nodes)))

    # On a busy machine, a late blob makes the mirror answer 404 for all blobs, for 30 s.
    assert 0 < await eventually(from_mirrors, within=60, every=HURRIED.again, ignoring=())


async def _as_containerd(node: PeerApp, registry: Registry, digest: str, size: int) -> int:
    """A blob from the mirror, and the rest of it from the registry. Returns the bytes from the mirror."""
    path, body = f"/v2/team/app/blobs/{digest}", bytearray()
    async with asked(node.mirror.port, f"{path}?ns={registry.host}", Authorization=SHOWN) as answer:
        if answer.status == 200:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while len(body) < size and (chunk := await answer.reader.read(1 << 18)):
                    body += chunk
    from_mirror = len(body)
    if from_mirror < size:
        headers = {"Authorization": SHOWN, "Range": f"bytes={from_mirror}-"}
        async with aiohttp.ClientSession() as session, session.get(registry.url + path, headers=headers) as rest:
            assert 206 == rest.status or not from_mirror
            body += await rest.read()
    assert digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
    return from_mirror


async def test_just_the_blobs_of_a_killed_supernode_are_404(ring: Ring, registry: Registry, image: Image) -> None:
    one = await ring.peer("n1")
    victim = ring.owner(task_id.of_blob(largest(image)[0]))
    await pull_manifests(one, registry, image, shown=SHOWN)
    ring.supernodes[victim].kill()
    await eventually(lambda: one.supernodes._links[f"s-{victim}"].client.error)
    statuses = set()
    for digest in sorted(of_amd64(image)):
        path = f"/v2/team/app/blobs/{digest}?ns={registry.host}"
        async with asyncio.timeout(HURRIED.blob):
            status, _, body = await get(one.mirror.port, path, Authorization=SHOWN)
        expected = 404 if victim == ring.owner(task_id.of_blob(digest)) else 200
        assert expected == status, digest
        assert status == 404 or digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
        statuses.add(status)
    assert {200, 404} == statuses


async def test_pulls_are_right_after_a_supernode_is_removed(ring: Ring, registry: Registry, image: Image) -> None:
    one, other = await ring.peer("n1"), await ring.peer("n2")
    await pull(one, registry, image, shown=SHOWN)
    last = ring.supernodes[2]
    leaving = (*ring.members[:2], msgspec.structs.replace(ring.members[2], leaving=True))
    await ring.state(*leaving)
    process = last.running
    os.kill(process.pid, signal.SIGTERM)
    await eventually(lambda: process.returncode is not None)
    assert 0 == process.returncode
    last.kill()
    await ring.state(*ring.members[:2])
    await eventually(lambda: {"s-0", "s-1"} == other.supernodes._links.keys())
    await pull(other, registry, image, shown=SHOWN)
