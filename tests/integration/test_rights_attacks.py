"""A tenant with a registry of its own tries to read private layers of others, with requests as containerd sends them.

The tenant knows the digests, as everybody does that once had access. Its registry serves a manifest that names them.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pantala_peer.app import PeerApp
from pantala_peer.mirror.deadlines import Deadlines
from pantala_protocol import task_id
from pantala_supernode.registry.manifest import OCI_INDEX, OCI_MANIFEST
from tests.support.fake_registry import FakeRegistry, basic, sha256
from tests.support.scripted_images import asked, get
from tests.support.supernode_lab import SupernodeLab

SIZE = 700_017
SECRET = hashlib.shake_256(b"a private layer").digest(SIZE)
ZEROS = bytes(200_000) + hashlib.shake_256(b"a few private bytes").digest(64) + bytes(SIZE - 200_064)
"""A private layer with long runs of zeros."""
GOOD = basic("ann", "s3cr3t-of-ann")


class Victim(FakeRegistry):
    """A private registry with one image."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts = {"ann": "s3cr3t-of-ann"}


Handler = Callable[[web.Request], web.StreamResponse | None]


class Liar(FakeRegistry):
    """The tenant's registry. Everybody may read it. It answers requests for blobs as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.lie: Callable[[web.Request], web.StreamResponse | Awaitable[web.StreamResponse]] | None = None

    def name(self, digest: str, size: int) -> str:
        """Serve a manifest that names another registry's layer. Returns its digest."""
        config = json.dumps({"os": "linux"}).encode()
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self._blob(config),
                "layers": [{"mediaType": "application/octet-stream", "digest": digest, "size": size}],
            }
        ).encode()
        self.manifests[sha256(body)] = (OCI_MANIFEST, body)
        return sha256(body)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "/blobs/" in request.path and self.lie is not None:
            lied = self.lie(request)
            return lied if isinstance(lied, web.StreamResponse) else await lied
        return await super().answer(request)


def sends(data: bytes) -> Callable[[web.Request], web.StreamResponse]:
    """Send these bytes, or the requested range of them."""

    def answer(request: web.Request) -> web.StreamResponse:
        span = request.http_range
        if span.start is None:
            return web.Response(body=data)
        stop = min(len(data) if span.stop is None else span.stop, len(data))
        headers = {"Content-Range": f"bytes {span.start}-{stop - 1}/{len(data)}"}
        return web.Response(status=206, body=data[span.start : stop], headers=headers)

    return answer


def refuses(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


async def hangs(request: web.Request) -> web.StreamResponse:
    """Announce the layer, and send nothing more."""
    response = web.StreamResponse(headers={"Content-Length": str(SIZE)})
    await response.prepare(request)
    await asyncio.sleep(60)
    return response


async def drips(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(SIZE)})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        for _ in range(600):
            await response.write(b"x")
            await asyncio.sleep(0.1)
    return response


async def prefix(request: web.Request) -> web.StreamResponse:
    """Send the first half, which the tenant knows, and then cut."""
    response = web.StreamResponse(headers={"Content-Length": str(SIZE)})
    await response.prepare(request)
    await response.write(SECRET[: SIZE // 2])
    assert request.transport is not None
    request.transport.abort()
    return response


LIES: dict[str, Any] = {
    "garbage": sends(hashlib.shake_256(b"garbage").digest(SIZE)),
    "zeros": sends(bytes(SIZE)),
    "short": sends(b"x" * 100),
    "long": sends(b"x" * (SIZE + 1)),
    "nothing": sends(b""),
    "404": refuses,
    "hangs": hangs,
    "drips": drips,
    "prefix": prefix,
}


PATIENT = Deadlines(manifest=15.0, small=15.0, blob=15.0)
"""So that a busy machine does not end an honest pull."""


class Stage(SupernodeLab):
    def __init__(self, folder: Path, victim: Victim, liar: Liar) -> None:
        super().__init__(folder, grace=0.2)
        self.patience = 3.0
        """Seconds for which a thief waits for each answer, and then for its body."""
        self.victim = victim
        self.liar = liar
        self.layer = SECRET
        self.index = ""

    async def mirror(self, name: str, **changes: Any) -> PeerApp:
        return await super().mirror(name, **{"mirror_deadlines": PATIENT, **changes})

    def serve(self, layer: bytes) -> None:  # type: ignore[override]
        self.layer = layer
        self.index = self.victim.push("1", layer=layer)

    async def honest(self, node: PeerApp, repository: str = "team/app") -> bytes:
        """Pull the layer with the right password."""
        for digest in (digest for digest in self.victim.manifests if ":" in digest):
            path = f"/v2/{repository}/manifests/{digest}?ns={self.victim.host}"
            assert 200 == (await get(node.mirror.port, path, Authorization=GOOD))[0]
        path = f"/v2/{repository}/blobs/{sha256(self.layer)}?ns={self.victim.host}"
        status, _, body = await get(node.mirror.port, path, Authorization=GOOD)
        return body if status == 200 else b""

    async def steal(self, node: PeerApp, repository: str = "evil/app", **headers: str) -> bytes:
        """Read the victim's layer by the name of the liar's repository. Returns what comes."""
        digest = self.liar.name(sha256(self.layer), len(self.layer))
        ns = f"?ns={self.liar.host}"
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            await get(node.mirror.port, f"/v2/{repository}/manifests/{digest}{ns}")
            path = f"/v2/{repository}/blobs/{sha256(self.layer)}{ns}"
            async with asked(node.mirror.port, path, timeout=self.patience, **headers) as answer:
                return await answer.body(self.patience) if answer.status in (200, 206) else b""
        return b""


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Victim() as victim, Liar() as liar, Stage(tmp_path, victim, liar) as stage:
        await stage.state()
        stage.serve(SECRET)
        yield stage


def leaks(got: bytes, layer: bytes, known: bytes = b"") -> bool:
    """True if ``got`` has private bytes of the layer: eight equal ones that are neither zeros nor known."""
    seen = {got[at : at + 8] for at in range(len(got) - 7)}
    return any(
        (part := layer[at : at + 8]) in seen and part.strip(b"\0") and part not in known
        for at in range(0, len(layer) - 7, 8)
    )


@pytest.mark.parametrize("lie", LIES)
async def test_c1_a_liars_bytes_give_no_right_to_private_ones(stage: Stage, lie: str) -> None:
    """The audit's attack: first let any bytes arrive, then let an honest node pull, then ask again."""
    one, two = await stage.mirror("n1"), await stage.mirror("n2")
    stage.liar.lie = LIES[lie]
    known = SECRET[: SIZE // 2] if lie == "prefix" else b""
    assert not leaks(await stage.steal(two), SECRET, known)
    assert SECRET == await stage.honest(one)
    for stolen in await asyncio.gather(
        *(stage.steal(node, f"evil/{number}") for number, node in enumerate((one, two, one, two))), stage.steal(two)
    ):
        assert not leaks(stolen, SECRET, known)
    stage.liar.lie = refuses
    assert not leaks(await stage.steal(two), SECRET, known)
    assert stage.liar.asked


@pytest.mark.parametrize("lie", ["zeros", "garbage"])
async def test_c1_zeros_do_not_prove_a_layer_of_zeros_under_any_repository(stage: Stage, lie: str) -> None:
    stage.serve(ZEROS)
    one, two = await stage.mirror("n1"), await stage.mirror("n2")
    assert ZEROS == await stage.honest(one)
    stage.liar.lie = LIES[lie]
    for number in range(0, 40, 8):
        stealing = [stage.steal(node, f"evil/{each}") for each in range(number, number + 8) for node in (one, two)]
        for stolen in await asyncio.gather(*stealing):
            assert not leaks(stolen, ZEROS)


async def test_c1_ranges_and_a_running_fetch_give_nothing_either(stage: Stage) -> None:
    one, two = await stage.mirror("n1"), await stage.mirror("n2")
    stage.liar.lie = LIES["garbage"]
    pulling = asyncio.create_task(stage.honest(one))
    stolen = [
        stage.steal(two, f"evil/{start}", Range=f"bytes={start}-{start + 99_999}") for start in range(0, SIZE, 99_999)
    ]
    for got in await asyncio.gather(*stolen, *(stage.steal(one, f"evil/1{number}") for number in range(5))):
        assert not leaks(got, SECRET)
    assert SECRET == await pulling


async def test_c1_wrong_and_no_credentials_at_the_right_repository_give_nothing(stage: Stage) -> None:
    one, two = await stage.mirror("n1"), await stage.mirror("n2")
    assert SECRET == await stage.honest(one)
    digests = [digest for digest in stage.victim.manifests if ":" in digest]
    for node in (one, two):
        for shown in ("", basic("ann", "wrong"), "Bearer x", GOOD + "x", basic("pantala", "x")):
            headers = {"Authorization": shown} if shown else {}
            for kind, digest in [("manifests", each) for each in digests] + [("blobs", sha256(SECRET))]:
                path = f"/v2/team/app/{kind}/{digest}?ns={stage.victim.host}"
                for method in ("GET", "HEAD"):
                    assert (await get(node.mirror.port, path, method=method, **headers))[0] in (401, 404)


async def test_c1_an_index_of_the_liar_gives_no_right_to_a_private_manifest(stage: Stage) -> None:
    one, two = await stage.mirror("n1"), await stage.mirror("n2")
    assert SECRET == await stage.honest(one)
    private = {name: body for name, (_, body) in stage.victim.manifests.items() if ":" in name}
    named = [{"mediaType": OCI_MANIFEST, "digest": name, "size": len(body)} for name, body in private.items()]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": named}).encode()
    stage.liar.manifests[sha256(body)] = (OCI_INDEX, body)
    for node in (one, two):
        ns = f"?ns={stage.liar.host}"
        assert 200 == (await get(node.mirror.port, f"/v2/evil/app/manifests/{sha256(body)}{ns}"))[0]
        for name in private:
            for kind in ("manifests", "blobs"):
                assert 404 == (await get(node.mirror.port, f"/v2/evil/app/{kind}/{name}{ns}"))[0]


async def test_c1_a_registry_that_has_the_layer_may_give_it(stage: Stage) -> None:
    """An honest copy in another registry costs one read of the whole layer, and none for the next node."""
    one, two, three = [await stage.mirror(f"n{number}") for number in (1, 2, 3)]
    assert SECRET == await stage.honest(one)
    stage.liar.lie = sends(SECRET)
    assert SECRET == await stage.steal(two)
    assert SECRET == await stage.steal(three)
    whole = [each for each in stage.liar.asked if "/blobs/" in each.path and sha256(SECRET) in each.path]
    assert 1 <= len(whole) <= 2
    assert 1 == len(
        {name for name in stage.app.managers.tasks.kept_by("n3") if name == task_id.of_blob(sha256(SECRET))}
    )


@pytest.mark.parametrize("lie", ["hangs", "drips", "garbage", "prefix"])
async def test_m7_a_poisoned_first_source_does_not_shut_honest_nodes_out(stage: Stage, lie: str) -> None:
    one, two = await stage.mirror("n1"), await stage.mirror("n2")
    stage.liar.lie, stage.patience = LIES[lie], 9.0  # longer than the honest pull
    stealing = [asyncio.create_task(stage.steal(two, f"evil/{number}")) for number in range(8)]
    await asyncio.sleep(1.0)
    begun = asyncio.get_running_loop().time()
    assert SECRET == await stage.honest(one)
    assert asyncio.get_running_loop().time() - begun < 10  # 3 s on a machine with nothing else to do
    known = SECRET[: SIZE // 2] if lie == "prefix" else b""
    for got in await asyncio.gather(*stealing):
        assert not leaks(got, SECRET, known)
