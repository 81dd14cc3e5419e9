"""A supernode, peers with mirrors and a real registry: manifests and blobs as runtimes request them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from pantala_protocol import ranges, task_id
from pantala_protocol import registry as routes
from pantala_protocol.images import PullOrder, WantedImage
from pantala_protocol.registry import ManifestAnswer, Resolve, Resolved
from pantala_protocol.sync import HeldPieces, PieceWork, WantedBlob
from testbed import image as images
from testbed import registry as testbed_registry
from testbed.image import Image, Layer
from testbed.registry import Registry
from tests.support.fake_registry import FakeRegistry, basic
from tests.support.manual_peer import ManualPeer
from tests.support.registry_images import ANN, SHOWN, largest, of_amd64, pull, registry_of, sent
from tests.support.scripted_images import get
from tests.support.supernode_lab import SupernodeLab

pytestmark = pytest.mark.skipif(
    not testbed_registry.installed(), reason="docker-registry is not installed: apt-get install docker-registry"
)
WRONG = basic(ANN[0], "wrong")


def secret(registry: Registry, user: str = ANN[0], password: str = ANN[1]) -> str:
    return json.dumps({"auths": {registry.host: {"username": user, "password": password}}})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    layers = [Layer(5_000_000, seed=1), Layer(70_000, seed=2)]
    return images.build(tmp_path_factory.mktemp("image"), layers, platforms=["linux/amd64", "linux/arm64"])


@pytest.fixture
def public(tmp_path: Path, image: Image) -> Iterator[Registry]:
    with registry_of(image, tmp_path / "public") as registry:
        yield registry


@pytest.fixture
def private(tmp_path: Path, image: Image) -> Iterator[Registry]:
    with registry_of(image, tmp_path / "private", private=True) as registry:
        yield registry


class Lab(SupernodeLab):
    """A supernode, and the requests of nodes and operators for images."""

    async def ask(self, registry: Registry, reference: str, **query: str) -> tuple[int, bytes]:
        """Request a manifest, and return the status and the body of the answer."""
        asked = {"registry": registry.host, "repository": "team/app", "reference": reference, **query}
        async with self.session.get(self.url + routes.PATH, params=asked) as answer:
            return answer.status, await answer.read()

    async def manifest(self, registry: Registry, reference: str, **query: str) -> ManifestAnswer:
        status, body = await self.ask(registry, reference, **query)
        assert 200 == status, body
        return msgspec.json.decode(body, type=ManifestAnswer)

    async def order(self, registry: Registry, image: Image, *secrets: str) -> None:
        """Order a pull by the node n1."""
        name, orders = f"{registry.host}/team/app@{image.digest}", {"n1": PullOrder("run-1")}
        await self.state(images=(WantedImage("ns/app", name, credentials=secrets, orders=orders),))

    async def resolve(self, image: str, *platforms: str, credentials: tuple[str, ...] = ()) -> Resolved:
        body = msgspec.json.encode(Resolve(image, platforms, credentials))
        async with self.session.post(self.url + routes.RESOLVE, data=body) as answer:
            assert 200 == answer.status, await answer.text()
            return msgspec.json.decode(await answer.read(), type=Resolved)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with Lab(tmp_path, grace=0.2) as lab:
        yield lab


def holders(lab: Lab, name: str) -> set[str]:
    """The nodes that keep a blob for others."""
    return {peer.name for peer in lab.app.managers.peers if name in lab.app.managers.tasks.kept_by(peer.name)}


async def test_two_nodes_pull_and_the_registry_serves_each_blob_once(lab: Lab, public: Registry, image: Image) -> None:
    await lab.state()
    one, other = await lab.mirror("n1"), await lab.mirror("n2")
    begun = asyncio.get_running_loop().time()
    await pull(one, public, image)
    assert asyncio.get_running_loop().time() - begun < 8
    await pull(other, public, image)
    assert of_amd64(image) == await sent(public)


async def test_a_private_image_requires_its_password(lab: Lab, private: Registry, image: Image) -> None:
    await lab.state()
    node, path = await lab.mirror("n1"), f"/v2/team/app/manifests/{image.digest}?ns={private.host}"
    status, said, _ = await get(node.mirror.port, path)
    assert (401, 'basic realm="testbed"') == (status, said.get("www-authenticate", "").lower())
    await pull(node, private, image, shown=SHOWN)
    assert 401 == (await get(node.mirror.port, path, Authorization=WRONG))[0]
    assert 401 == (await get(node.mirror.port, path))[0]
    assert of_amd64(image) == await sent(private)


async def test_only_the_ordered_node_pulls_with_the_operators_secret(lab: Lab, private: Registry, image: Image) -> None:
    await lab.order(private, image, secret(private, password="wrong"), "no JSON", secret(private))
    for digest in (image.digest, image.manifests["linux/amd64"]):
        assert image.read(digest) == (await lab.manifest(private, digest, order="ns/app", peer="n1")).body
    right = {"reference": image.digest, "order": "ns/app", "peer": "n1"}
    for wrong in (
        {"peer": "n2"},
        {"order": "ns/other"},
        {"reference": next(iter(of_amd64(image)))},
        {"reference": "1"},
        {"repository": "team/other"},
    ):
        status, body = await lab.ask(private, **{**right, **wrong})
        assert 403 == status, wrong
        assert ANN[1].encode() not in body
    await lab.state()
    assert 403 == (await lab.ask(private, **right))[0], "the secret of a withdrawn order"


async def test_a_manifest_is_found_missing_or_unreachable(lab: Lab, public: Registry, image: Image) -> None:
    assert image.digest == (await lab.manifest(public, "1")).digest
    assert ManifestAnswer() == await lab.manifest(public, "sha256:" + "0" * 64)
    public.stop()
    assert 503 == (await lab.ask(public, image.manifests["linux/arm64"]))[0]


async def test_an_image_is_resolved_for_the_operator(lab: Lab, private: Registry, image: Image) -> None:
    name = f"{private.host}/team/app:1"
    found = await lab.resolve(name, "linux/amd64", "linux/arm64", "linux/s390x", credentials=(secret(private),))
    assert (image.digest, "", "") == (found.digest, found.reason, found.message)
    assert {"linux/amd64", "linux/arm64"} == found.platforms.keys()
    assert of_amd64(image) == {blob.digest: blob.size for blob in found.platforms["linux/amd64"]}


async def test_an_unresolved_image_has_a_reason(lab: Lab, private: Registry, public: Registry, image: Image) -> None:
    reasons = {
        f"{private.host}/team/app:1": "Unauthorized",
        f"{public.host}/team/none:1": "NotFound",
        f"{public.host}/team/app:no": "NotFound",
        f"{public.host}/Team/app:1": "InvalidImage",
        "127.0.0.1:1/team/app:1": "Unreachable",
    }
    for name, reason in reasons.items():
        found = await lab.resolve(name, "linux/amd64")
        assert ("", reason) == (found.digest, found.reason)
        assert found.message
    wrong = await lab.resolve(f"{private.host}/team/app:1", credentials=(secret(private, password="wrong-password"),))
    assert "Unauthorized" == wrong.reason
    assert "wrong-password" not in wrong.message
    assert "Unauthorized" == (await lab.resolve(f"{private.host}/team/app:1", credentials=("{",))).reason


async def test_another_registry_must_send_the_whole_blob_once(
    lab: Lab, public: Registry, private: Registry, image: Image
) -> None:
    await lab.state()
    one, other = await lab.mirror("n1"), await lab.mirror("n2")
    await pull(one, public, image)
    await pull(other, private, image, shown=SHOWN)
    assert of_amd64(image) == await sent(public)
    assert of_amd64(image) == await sent(private)
    await pull(await lab.mirror("n3"), private, image, shown=SHOWN)
    again = await sent(private)
    assert all(0 <= again[name] - size <= 1 for name, size in of_amd64(image).items())


async def test_a_node_whose_registry_lacks_the_blob_receives_no_piece(lab: Lab, public: Registry, image: Image) -> None:
    await lab.state()
    await pull(await lab.mirror("n1"), public, image)
    layer, size = largest(image)
    for has in ("nothing", "other bytes"):
        async with FakeRegistry() as evil:
            if has == "other bytes":
                evil.blobs[layer] = bytes(size)
            node = ManualPeer(lab, has)
            await node.say()
            task = task_id.of_blob(layer)
            wanted = WantedBlob(evil.host, "team/app", layer)
            for _ in range(3):
                answer = await asyncio.wait_for(node.say(wants={task: wanted}, leaving=True), 5)
                assert () == (answer.assignments or ())
                await asyncio.sleep(0.2)
            assert any(layer in asked.path for asked in evil.asked)
            assert "n1" in holders(lab, task)
            assert has not in holders(lab, task)


async def test_a_blob_by_order_is_fetched_with_the_operators_secret(lab: Lab, private: Registry, image: Image) -> None:
    layer, size = largest(image)
    task = task_id.of_blob(layer)
    await lab.order(private, image, secret(private, password="wrong"), secret(private))
    other, node = ManualPeer(lab, "n2"), ManualPeer(lab, "n1")
    said = {task: WantedBlob(private.host, "team/app", layer, order="ns/app")}
    for _ in range(2):
        assert () == (await other.say(wants=said, leaving=True)).work
    assert [] == private.requests()
    got: dict[int, int] = {}
    work: tuple[PieceWork, ...] = ()
    async with asyncio.timeout(15):
        while sum(got.values()) < size:
            work = (await node.say(wants=said, done=done(task, work))).work
            got |= {one.piece: one.size for one in work}
    assert (0, size) == (min(got), (await sent(private))[layer])
    await node.say(wants={}, leaving=True)
    assert {"n1"} == holders(lab, task)


def done(task: str, work: tuple[PieceWork, ...]) -> dict[str, HeldPieces]:
    mask = sum(1 << one.piece for one in work)
    return {task: HeldPieces(work[0].generation, ranges.render(mask))} if work else {}


async def test_a_node_that_stops_waiting_keeps_the_blob_without_work(lab: Lab, public: Registry, image: Image) -> None:
    await lab.state()
    layer, size = largest(image)
    task, node = task_id.of_blob(layer), ManualPeer(lab, "n1")
    said = {task: WantedBlob(public.host, "team/app", layer, position=size - 1)}
    work = await node.work(wants=said)
    await node.say(wants={}, done=done(task, (work[0],)), leaving=True)
    assert {"n1"} == holders(lab, task)
    given: list[PieceWork] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                given += (await node.say(wants={})).work
    assert [] == given
    given = await node.work(wants=said, inventory=done(task, (work[0],)))
    assert work[0].piece not in {one.piece for one in given}
    await node.say(inventory={}, leaving=True)
    assert set() == holders(lab, task)
