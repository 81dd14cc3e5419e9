"""The mirror in a real peer: containerd gets what is right, in time, or 404; it never hangs and is never lied to."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pantala_peer.mirror.deadlines import Deadlines
from tests.support.eventually import eventually
from tests.support.peer_lab import mirror
from tests.support.scripted_images import OCI, REGISTRY, BlobFile, Image, RegistrySupernode, asked, digest, get
from tests.support.scripted_supernode import PIECE

LAYER = random.Random(3).randbytes(10 * PIECE + 17)
HURRIED = Deadlines(manifest=0.3, small=0.3, blob=0.5, again=0.4, stall=0.8)


@pytest.fixture
async def supernode() -> AsyncIterator[RegistrySupernode]:
    scripted = RegistrySupernode()
    async with scripted.serving():
        yield scripted


@pytest.fixture
def image(supernode: RegistrySupernode) -> Image:
    return supernode.add(Image([BlobFile("layer", LAYER)]))


async def settle(supernode: RegistrySupernode) -> None:
    """Nothing is wanted any more."""
    await eventually(lambda: supernode.wanted[-1] == {})


async def test_a_pull_gets_manifest_config_and_layers(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    async with mirror(supernode.url, tmp_path) as peer:
        status, headers, body = await get(peer.mirror.port, image.path(), method="HEAD")
        assert (200, b"") == (status, body)
        assert (image.digest, OCI, str(len(image.manifest))) == (
            headers["docker-content-digest"],
            headers["content-type"],
            headers["content-length"],
        )
        status, headers, body = await get(peer.mirror.port, image.path(), Accept_Encoding="gzip")
        assert (200, image.manifest) == (status, body)
        assert "content-encoding" not in headers
        for file in (image.config, *image.layers):
            status, headers, body = await get(peer.mirror.port, image.blob(file))
            assert (200, file.content) == (status, body)
            assert str(len(file.content)) == headers["content-length"]
            assert file.digest == headers["docker-content-digest"]
        await settle(supernode)
        assert [(image.digest, "")] == supernode.asked
        counts = peer.mirror.server.counts
        assert (2, 2, len(LAYER) + len(image.config.content)) == (counts.manifests, counts.blobs, counts.bytes)


async def test_bytes_are_passed_on_while_pieces_arrive_in_any_order(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    supernode.released = 0b0010_1001_1010  # neither 0 nor all of what follows
    async with mirror(supernode.url, tmp_path) as peer:
        await get(peer.mirror.port, image.path())
        asking = asyncio.create_task(get(peer.mirror.port, image.blob(image.layers[0])))
        await eventually(lambda: len(supernode.sent) == 5)
        assert not asking.done()
        asking.cancel()
        await supernode.release(supernode.released | 1)
        async with asked(peer.mirror.port, image.blob(image.layers[0])) as answer:
            assert 200 == answer.status
            assert LAYER[: 2 * PIECE] == await answer.reader.readexactly(2 * PIECE)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await answer.reader.readexactly(1)
            await supernode.release(None)
            async with asyncio.timeout(10):
                assert LAYER[2 * PIECE :] == await answer.reader.readexactly(len(LAYER) - 2 * PIECE)
    assert sorted(set(supernode.begun)) == sorted(supernode.begun), "a piece was given twice"
    assert sorted(supernode.begun) != supernode.begun


async def test_three_clients_of_one_blob_are_one_want_and_one_fetch(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    layer = image.layers[0]
    async with mirror(supernode.url, tmp_path) as peer:
        await get(peer.mirror.port, image.path())
        answers = await asyncio.gather(*(get(peer.mirror.port, image.blob(layer)) for _ in range(3)))
        assert [(200, LAYER)] * 3 == [(status, body) for status, _, body in answers]
        await settle(supernode)
    assert [[], [layer.task_id], []] == _names(supernode)
    assert len(supernode.sent) == layer.geometry.pieces


async def test_a_client_that_goes_away_ends_its_want_unless_others_read(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    layer = image.layers[0]
    supernode.released = 0b1
    async with mirror(supernode.url, tmp_path) as peer:
        await get(peer.mirror.port, image.path())
        async with asked(peer.mirror.port, image.blob(layer)) as first:
            async with asked(peer.mirror.port, image.blob(layer)) as second:
                assert (200, 200) == (first.status, second.status)
            await asyncio.sleep(0.2)
            assert [layer.task_id] == list(supernode.wanted[-1])
        await settle(supernode)


@contextlib.asynccontextmanager
async def stoppable(supernode: RegistrySupernode) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Serve until told to stop."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(supernode.serving())
        yield stack.aclose


class _Liar(BlobFile):
    """Says that it is another blob."""

    of: str = ""

    @property
    def task_id(self) -> str:
        return self.of


def _names(supernode: RegistrySupernode) -> list[list[str]]:
    """Which tasks were wanted, one set after the other."""
    found: list[list[str]] = []
    for wants in supernode.wanted:
        if not found or found[-1] != list(wants):
            found.append(list(wants))
    return found


@pytest.mark.parametrize(
    ("asked_for", "start", "end"),
    [
        (f"bytes={3 * PIECE + 5}-", 3 * PIECE + 5, len(LAYER)),
        ("bytes=0-0", 0, 1),
        (f"bytes={PIECE - 1}-{PIECE}", PIECE - 1, PIECE + 1),
        ("bytes=-7", len(LAYER) - 7, len(LAYER)),
        (f"bytes=0-{10**15}", 0, len(LAYER)),
    ],
)
async def test_a_range_begins_at_its_very_byte(
    supernode: RegistrySupernode, image: Image, tmp_path: Path, asked_for: str, start: int, end: int
) -> None:
    async with mirror(supernode.url, tmp_path) as peer:
        await get(peer.mirror.port, image.path())
        status, headers, body = await get(peer.mirror.port, image.blob(image.layers[0]), Range=asked_for)
    assert (206, LAYER[start:end]) == (status, body)
    assert f"bytes {start}-{end - 1}/{len(LAYER)}" == headers["content-range"]
    assert start // PIECE == supernode.begun[0], "the piece that is waited for comes first"


async def test_what_no_range_can_give_is_416_and_what_is_no_range_is_the_whole(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    async with mirror(supernode.url, tmp_path) as peer:
        port, path = peer.mirror.port, image.blob(image.layers[0])
        await get(port, image.path())
        status, headers, _ = await get(port, path, Range=f"bytes={len(LAYER)}-")
        assert (416, f"bytes */{len(LAYER)}") == (status, headers["content-range"])
        for header in ("bytes=", "lines=1-2", "bytes=5-2", "bytes=0-1,5-6"):
            status, _, body = await get(port, path, Range=header)
            assert (200, LAYER) == (status, body), header


async def test_a_body_that_stalls_is_asked_for_again_then_ends_with_fin_and_what_follows_is_404_at_once(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    supernode.released = 0b111
    layer = image.layers[0]
    async with mirror(supernode.url, tmp_path, mirror_deadlines=HURRIED) as peer:
        port = peer.mirror.port
        await get(port, image.path())
        async with asked(port, image.blob(layer)) as answer:
            assert LAYER[: 3 * PIECE] == await answer.body()  # a RST would raise
            assert b"" == await answer.reader.read()
        stalls = [wants[layer.task_id].stalls for wants in supernode.wanted if wants]
        assert 1 == max(stalls)
        assert 3 * PIECE == [wants for wants in supernode.wanted if wants][-1][layer.task_id].position
        loop = asyncio.get_running_loop()
        begun = loop.time()
        status, _, _ = await get(port, image.blob(layer), Range=f"bytes={3 * PIECE}-")
        assert 404 == status
        assert loop.time() - begun < 0.05
        assert 1 == peer.mirror.server.counts.broken


async def test_no_head_is_sent_before_the_first_bytes_and_one_pull_waits_once(
    supernode: RegistrySupernode, tmp_path: Path
) -> None:
    supernode.released = 0
    layers = [BlobFile(str(number), random.Random(number).randbytes(2 * PIECE)) for number in range(4)]
    image = supernode.add(Image(layers))
    async with mirror(supernode.url, tmp_path, mirror_deadlines=HURRIED) as peer:
        port, loop = peer.mirror.port, asyncio.get_running_loop()
        await get(port, image.path())
        begun = loop.time()
        answers = await asyncio.gather(*(get(port, image.blob(layer)) for layer in layers[:3]))
        assert [404] * 3 == [status for status, _, _ in answers]
        assert HURRIED.blob <= loop.time() - begun < HURRIED.blob + 0.4
        begun = loop.time()
        assert 404 == (await get(port, image.blob(layers[3])))[0]
        assert loop.time() - begun < 0.05
        await settle(supernode)


async def test_what_is_held_is_served_though_the_rest_of_its_repository_is_spared(
    supernode: RegistrySupernode, tmp_path: Path
) -> None:
    layers = [BlobFile(str(number), random.Random(number).randbytes(2 * PIECE)) for number in range(2)]
    image = supernode.add(Image(layers))
    async with mirror(supernode.url, tmp_path, mirror_deadlines=HURRIED) as peer:
        port = peer.mirror.port
        await get(port, image.path())
        assert 200 == (await get(port, image.blob(layers[0])))[0]
        supernode.released = 0
        assert 404 == (await get(port, image.blob(layers[1])))[0]
        assert (200, layers[0].content) == (await get(port, image.blob(layers[0])))[::2]
        assert (200, image.manifest) == (await get(port, image.path()))[::2]


@pytest.mark.parametrize("delay", [30.0])
async def test_a_manifest_that_does_not_come_in_time_is_404(
    supernode: RegistrySupernode, image: Image, tmp_path: Path, delay: float
) -> None:
    supernode.manifest_delay = delay
    async with mirror(supernode.url, tmp_path, mirror_deadlines=HURRIED) as peer:
        port, loop = peer.mirror.port, asyncio.get_running_loop()
        begun = loop.time()
        assert 404 == (await get(port, image.path()))[0]
        assert HURRIED.manifest <= loop.time() - begun < HURRIED.manifest + 0.3
        begun = loop.time()
        assert 404 == (await get(port, image.path()))[0]
        assert loop.time() - begun < 0.05


async def test_without_a_supernode_every_miss_is_404_at_once_and_what_is_held_is_served(
    tmp_path: Path,
) -> None:
    supernode = RegistrySupernode()
    image = supernode.add(Image([BlobFile("a", LAYER), BlobFile("b", LAYER[::-1])]))
    async with stoppable(supernode) as stop, mirror(supernode.url, tmp_path) as peer:
        port, loop = peer.mirror.port, asyncio.get_running_loop()
        await get(port, image.path())
        await get(port, image.blob(image.layers[0]))
        await stop()
        await eventually(lambda: peer.supernodes.errors)
        begun = loop.time()
        assert 404 == (await get(port, image.blob(image.layers[1])))[0]
        assert 404 == (await get(port, f"/v2/other/manifests/{digest(b'')}?ns={REGISTRY}"))[0]
        assert loop.time() - begun < 0.1
        assert (200, LAYER) == (await get(port, image.blob(image.layers[0])))[::2]


async def test_a_blob_of_another_length_than_its_manifest_says_is_not_served(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    layer = image.layers[0]
    supernode.blobs[layer.task_id] = liar = _Liar("layer", LAYER + b"more")
    liar.of = layer.task_id
    supernode.files[layer.task_id] = liar
    async with mirror(supernode.url, tmp_path) as peer:
        await get(peer.mirror.port, image.path())
        assert 404 == (await get(peer.mirror.port, image.blob(layer)))[0]


async def test_wrong_pieces_never_reach_containerd(supernode: RegistrySupernode, image: Image, tmp_path: Path) -> None:
    image.layers[0].corrupt = True
    async with mirror(supernode.url, tmp_path, mirror_deadlines=HURRIED) as peer:
        await get(peer.mirror.port, image.path())
        assert 404 == (await get(peer.mirror.port, image.blob(image.layers[0])))[0]
        assert 0 == peer.mirror.server.counts.bytes
        assert supernode.failures


async def test_a_manifest_that_is_not_its_digest_is_not_passed_on(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    class Other(Image):
        digest = digest(b"what was asked for")

    other = supernode.add(Other(image.layers, repository="other"))
    async with mirror(supernode.url, tmp_path) as peer:
        assert 404 == (await get(peer.mirror.port, other.path()))[0]


async def test_sigterm_in_mid_body_ends_it_with_fin(supernode: RegistrySupernode, image: Image, tmp_path: Path) -> None:
    supernode.released = 0b1
    async with mirror(supernode.url, tmp_path) as peer:
        await get(peer.mirror.port, image.path())
        connection = asked(peer.mirror.port, image.blob(image.layers[0]))
        answer = await connection.__aenter__()
    assert LAYER[:PIECE] == await answer.body()
    await connection.__aexit__(None, None, None)


async def test_two_requests_use_one_connection(supernode: RegistrySupernode, image: Image, tmp_path: Path) -> None:
    async with mirror(supernode.url, tmp_path) as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.mirror.port)
        for path in (image.path(), image.blob(image.layers[0]), "/v2/", image.blob(image.config)):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            async with asyncio.timeout(10):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                await reader.readexactly(length)
            assert head.startswith("http/1.1 404" if path == "/v2/" else "http/1.1 200")
        writer.close()


# Private repositories


async def test_the_registrys_challenge_is_relayed_and_what_comes_back_is_passed_on_once(
    supernode: RegistrySupernode, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = supernode.add(Image([BlobFile("layer", LAYER)], authorization="Basic c2VjcmV0"))
    layer = image.layers[0]
    async with mirror(supernode.url, tmp_path) as peer:
        port = peer.mirror.port
        async with asked(port, image.path()) as answer:
            assert 401 == answer.status
        assert 401 == (await get(port, image.path(), Authorization="Basic wrong"))[0]
        assert 404 == (await get(port, image.blob(layer)))[0]
        assert (200, image.manifest) == (await get(port, image.path(), Authorization=image.authorization))[::2]
        assert (200, LAYER) == (await get(port, image.blob(layer), Authorization=image.authorization))[::2]
        assert 404 == (await get(port, image.blob(layer)))[0], "held, and still not everybody's"
        assert 404 == (await get(port, image.blob(layer), Authorization="Basic wrong"))[0]
        assert 401 == (await get(port, image.path()))[0], "kept, and still not everybody's"
        await settle(supernode)
    said = [wants[layer.task_id] for wants in supernode.wanted if wants]
    assert {image.authorization} == {wanted.credential for wanted in said}
    assert "c2VjcmV0" not in repr(supernode.requests)
    assert "c2VjcmV0" not in "".join(capfd.readouterr())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"c2VjcmV0" in path.read_bytes()]


async def test_a_manifest_that_is_looked_for_among_blobs_is_refused_there_too(
    supernode: RegistrySupernode, tmp_path: Path
) -> None:
    """Containerd 2.4 does so after a refusal, and a 404 would tell the user that there is no such image."""
    image = supernode.add(Image([BlobFile("layer", LAYER)], authorization="Basic c2VjcmV0"))
    path = image.path().replace("/manifests/", "/blobs/")
    async with mirror(supernode.url, tmp_path) as peer:
        port = peer.mirror.port
        async with asked(port, path, method="HEAD") as answer:
            assert 401 == answer.status
            assert supernode.challenges[-1].lower() == answer.headers["www-authenticate"]
        assert 404 == (await get(port, path))[0]
        assert 404 == (await get(port, image.blob(image.layers[0]), method="HEAD"))[0]


async def test_a_blob_is_served_only_in_the_repository_whose_manifest_names_it(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    async with mirror(supernode.url, tmp_path) as peer:
        port, layer = peer.mirror.port, image.layers[0]
        assert 404 == (await get(port, image.blob(layer)))[0]
        await get(port, image.path())
        assert 200 == (await get(port, image.blob(layer)))[0]
        assert 404 == (await get(port, replace(image, repository="other").blob(layer)))[0]
        assert 404 == (await get(port, image.blob(layer, ns="other.example")))[0]


# What is not containerd, or not for us


@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        f"/v2/library/thing/manifests/{digest(b'')}",
        f"/v2/library/thing/manifests/latest?ns={REGISTRY}",
        f"/v2/../../etc/passwd?ns={REGISTRY}",
        f"/v2/..%2f..%2fetc/blobs/{digest(b'')}?ns={REGISTRY}",
        f"/v2/a/blobs/sha256:..%2f..%2fetc%2fpasswd?ns={REGISTRY}",
        f"/v2/a/blobs/sha256:{'0' * 63}?ns={REGISTRY}",
        f"/v2/a/blobs/md5:{'0' * 32}?ns={REGISTRY}",
        f"/v2/{'a' * 300}/blobs/{digest(b'')}?ns={REGISTRY}",
        f"/v2/A/blobs/{digest(b'')}?ns={REGISTRY}",
        f"/v2/a/blobs/{digest(b'')}?ns=http://x/",
        f"/v2/a/blobs/{digest(b'')}?ns=",
        f"/v2/a/blobs/{digest(b'')}?ns={REGISTRY}&ns={REGISTRY}",
        f"/v2/a/tags/list?ns={REGISTRY}",
        f"/v2/_catalog?ns={REGISTRY}",
        f"//v2/?ns={REGISTRY}",
        "/%00",
        "/",
        "/metrics",
    ],
)
async def test_what_is_not_the_pull_api_is_404(supernode: RegistrySupernode, tmp_path: Path, path: str) -> None:
    async with mirror(supernode.url, tmp_path) as peer:
        assert 404 == (await get(peer.mirror.port, path))[0]
    assert [] == supernode.asked


async def test_the_base_is_there_and_nothing_can_be_written(supernode: RegistrySupernode, tmp_path: Path) -> None:
    async with mirror(supernode.url, tmp_path) as peer:
        port = peer.mirror.port
        assert 200 == (await get(port, f"/v2/?ns={REGISTRY}"))[0]
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            status, headers, _ = await get(port, f"/v2/a/blobs/uploads/?ns={REGISTRY}", method=method)
            assert (405, "get, head") == (status, headers["allow"])


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 70_000]
)
async def test_garbage_hurts_nobody(supernode: RegistrySupernode, image: Image, tmp_path: Path, garbage: bytes) -> None:
    async with mirror(supernode.url, tmp_path) as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.mirror.port)
        writer.write(garbage + b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read(100)).startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        writer.close()
        assert 200 == (await get(peer.mirror.port, image.path()))[0]


async def test_with_a_token_only_who_shows_it_is_served(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("right\n")
    async with mirror(supernode.url, tmp_path / "root", mirror_token_file=tmp_path / "token") as peer:
        port = peer.mirror.port
        assert 404 == (await get(port, image.path()))[0]
        assert 404 == (await get(port, image.path(), X_Pantala_Mirror="wrong"))[0]
        assert 200 == (await get(port, image.path(), X_Pantala_Mirror="right"))[0]


async def test_a_tag_is_resolved_only_where_that_is_asked_for(
    supernode: RegistrySupernode, image: Image, tmp_path: Path
) -> None:
    path = f"/v2/{image.repository}/manifests/latest?ns={REGISTRY}"
    async with mirror(supernode.url, tmp_path, mirror_resolve=True) as peer:
        status, headers, body = await get(peer.mirror.port, path)
        assert (200, image.digest, image.manifest) == (status, headers["docker-content-digest"], body)
        assert 200 == (await get(peer.mirror.port, image.blob(image.config)))[0]


async def test_the_probe_is_404_and_tells_whether_it_came_by_our_hosts_toml(
    supernode: RegistrySupernode, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("right")
    async with mirror(supernode.url, tmp_path / "root", mirror_token_file=tmp_path / "token") as peer:
        port, service = peer.mirror.port, peer.mirror.server
        probe = "/v2/probe/node-1/manifests/1"
        there, found = f"{probe}?ns=localhost%3A{port}", []
        for path, shown in ((there, "right"), (there, ""), (probe, ""), (there, "wrong")):
            assert 404 == (await get(port, path, method="HEAD", **({"X_Pantala_Mirror": shown} if shown else {})))[0]
            assert service.probe is not None
            assert "node-1" == service.probe.node
            assert service.probe.at > 1e9
            found.append(service.probe.in_force)
        assert [True, True, False, False] == found, "the second one is the file's server, asked last"
    assert [] == supernode.asked
