"""The mirror in a real peer: containerd gets correct bytes in time, or 404. No request hangs."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.app import PeerApp
from pantala_peer.mirror.deadlines import Deadlines
from pantala_protocol.rules import headers
from tests.support.eventually import eventually
from tests.support.peer_lab import mirror
from tests.support.scripted_images import OCI, REGISTRY, Answer, BlobFile, Image, RegistrySupernode, Reply, asked, get
from tests.support.scripted_images import digest as digest_of
from tests.support.scripted_supernode import PIECE

LAYER = random.Random(3).randbytes(10 * PIECE + 17)
HURRIED = Deadlines(manifest=0.3, small=0.3, blob=0.5, again=0.4, stall=0.8)
PRIVATE = "Basic c2VjcmV0"


class Lab:
    """A supernode with an image of one layer, and a peer with a mirror."""

    def __init__(self, folder: Path, life: contextlib.AsyncExitStack) -> None:
        self.folder = folder
        self.supernode = RegistrySupernode()
        self.image = self.supernode.add(Image([BlobFile("layer", LAYER)]))
        self.peer: PeerApp
        self.life = life
        self.supernode_life = contextlib.AsyncExitStack()

    @property
    def layer(self) -> BlobFile:
        return self.image.layers[0]

    async def start(self, **settings: Any) -> None:
        """Start the supernode and the mirror."""
        url = await self.supernode_life.enter_async_context(self.supernode.serving())
        self.life.push_async_callback(self.supernode_life.aclose)
        self.peer = await self.life.enter_async_context(mirror(url, self.folder / "root", **settings))

    async def begin_pull(self, **settings: Any) -> None:
        """Start, and request the manifest as containerd does first."""
        await self.start(**settings)
        assert 200 == (await self.manifest()).status

    async def start_with_token(self) -> None:
        (self.folder / "token").write_text("right\n")
        await self.start(mirror_token_file=self.folder / "token")

    async def get(self, path: str, **request: Any) -> Reply:
        return await get(self.peer.mirror.port, path, **request)

    async def manifest(self, **request: Any) -> Reply:
        return await self.get(self.image.path(), **request)

    async def blob(self, file: BlobFile, **request: Any) -> Reply:
        return await self.get(self.image.blob(file), **request)

    def asked(self, file: BlobFile) -> contextlib.AbstractAsyncContextManager[Answer]:
        return asked(self.peer.mirror.port, self.image.blob(file))

    async def until_nothing_is_wanted(self) -> None:
        await eventually(lambda: self.supernode.wanted[-1] == {})


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Lab]:
    async with contextlib.AsyncExitStack() as life:
        yield Lab(tmp_path, life)


def layers(count: int) -> list[BlobFile]:
    return [BlobFile(str(number), random.Random(number).randbytes(2 * PIECE)) for number in range(count)]


@contextlib.contextmanager
def takes(*, at_least: float = 0.0, margin: float) -> Iterator[None]:
    begun = asyncio.get_running_loop().time()
    yield
    assert at_least <= asyncio.get_running_loop().time() - begun < at_least + margin


async def test_a_pull_gets_manifest_config_and_layers(it: Lab) -> None:
    await it.start()
    status, headers, body = await it.manifest(method="HEAD")
    assert (200, b"") == (status, body)
    expected = (it.image.digest, OCI, str(len(it.image.manifest)))
    assert expected == tuple(headers[name] for name in ("docker-content-digest", "content-type", "content-length"))
    status, headers, body = await it.manifest(Accept_Encoding="gzip")
    assert (200, it.image.manifest) == (status, body)
    assert "content-encoding" not in headers
    for file in (it.image.config, it.layer):
        status, headers, body = await it.blob(file)
        assert (200, file.content) == (status, body)
        assert str(len(file.content)) == headers["content-length"]
        assert file.digest == headers["docker-content-digest"]
    await it.until_nothing_is_wanted()
    assert [(it.image.digest, "")] == it.supernode.asked
    counts = it.peer.mirror.server.counts
    assert (2, 2, len(LAYER) + len(it.image.config.content)) == (counts.manifests, counts.blobs, counts.bytes)


async def test_bytes_are_sent_while_pieces_arrive_in_any_order(it: Lab) -> None:
    supernode = it.supernode
    supernode.released = 0b0010_1001_1010  # without piece 0
    await it.begin_pull()
    asking = asyncio.create_task(it.blob(it.layer))
    await eventually(lambda: len(supernode.sent) == 5)
    assert not asking.done()
    asking.cancel()
    await supernode.release(supernode.released | 1)
    async with it.asked(it.layer) as answer:
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


async def test_the_last_client_that_disconnects_ends_the_demand(it: Lab) -> None:
    it.supernode.released = 0b1
    await it.begin_pull()
    async with it.asked(it.layer) as first:
        async with it.asked(it.layer) as second:
            assert (200, 200) == (first.status, second.status)
        await asyncio.sleep(0.2)
        assert [it.layer.task_id] == list(it.supernode.wanted[-1])
    await it.until_nothing_is_wanted()


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        (f"bytes={3 * PIECE + 5}-", 3 * PIECE + 5, len(LAYER)),
        ("bytes=0-0", 0, 1),
        (f"bytes={PIECE - 1}-{PIECE}", PIECE - 1, PIECE + 1),
        ("bytes=-7", len(LAYER) - 7, len(LAYER)),
        (f"bytes=0-{10**15}", 0, len(LAYER)),
    ],
)
async def test_a_range_begins_at_its_first_byte(it: Lab, header: str, start: int, end: int) -> None:
    await it.begin_pull()
    status, headers, body = await it.blob(it.layer, Range=header)
    assert (206, LAYER[start:end]) == (status, body)
    assert f"bytes {start}-{end - 1}/{len(LAYER)}" == headers["content-range"]
    assert start // PIECE == it.supernode.begun[0], "the urgent piece comes first"


async def test_a_range_beyond_the_end_is_416_and_an_invalid_range_gets_the_whole_blob(it: Lab) -> None:
    await it.begin_pull()
    status, headers, _ = await it.blob(it.layer, Range=f"bytes={len(LAYER)}-")
    assert (416, f"bytes */{len(LAYER)}") == (status, headers["content-range"])
    for header in ("bytes=", "lines=1-2", "bytes=5-2", "bytes=0-1,5-6"):
        status, _, body = await it.blob(it.layer, Range=header)
        assert (200, LAYER) == (status, body), header


async def test_a_stalled_body_is_requested_again_and_ends_with_fin_and_its_rest_is_404_at_once(it: Lab) -> None:
    it.supernode.released = 0b111
    await it.begin_pull(mirror_deadlines=HURRIED)
    async with it.asked(it.layer) as answer:
        assert LAYER[: 3 * PIECE] == await answer.body()  # a RST would raise
        assert b"" == await answer.reader.read()
    wanted = [wants[it.layer.task_id] for wants in it.supernode.wanted if wants]
    assert (1, 3 * PIECE) == (max(one.stalls for one in wanted), wanted[-1].position)
    with takes(margin=0.05):
        assert 404 == (await it.blob(it.layer, Range=f"bytes={3 * PIECE}-")).status
    assert 1 == it.peer.mirror.server.counts.broken


async def test_without_a_first_byte_no_head_is_sent_and_one_pull_waits_once(it: Lab) -> None:
    it.supernode.released = 0
    it.image = it.supernode.add(Image(layers(4)))
    await it.begin_pull(mirror_deadlines=HURRIED)
    with takes(at_least=HURRIED.blob, margin=0.4):
        answers = await asyncio.gather(*(it.blob(layer) for layer in it.image.layers[:3]))
    assert [404] * 3 == [answer.status for answer in answers]
    with takes(margin=0.05):
        assert 404 == (await it.blob(it.image.layers[3])).status
    await it.until_nothing_is_wanted()


async def test_cached_content_is_served_while_its_repository_is_left_alone(it: Lab) -> None:
    it.image = it.supernode.add(Image(layers(2)))
    cached, other = it.image.layers
    await it.begin_pull(mirror_deadlines=HURRIED)
    assert 200 == (await it.blob(cached)).status
    it.supernode.released = 0
    assert 404 == (await it.blob(other)).status
    assert (200, cached.content) == (await it.blob(cached))[::2]
    assert (200, it.image.manifest) == (await it.manifest())[::2]


async def test_a_late_manifest_is_404_and_then_404_at_once(it: Lab) -> None:
    it.supernode.manifest_delay = 30.0
    await it.start(mirror_deadlines=HURRIED)
    with takes(at_least=HURRIED.manifest, margin=0.3):
        assert 404 == (await it.manifest()).status
    with takes(margin=0.05):
        assert 404 == (await it.manifest()).status


async def test_without_a_supernode_cached_content_is_served_and_the_rest_is_404_at_once(it: Lab) -> None:
    it.image = it.supernode.add(Image(layers(2)))
    cached, other = it.image.layers
    await it.begin_pull()
    await it.blob(cached)
    await it.supernode_life.aclose()
    await eventually(lambda: it.peer.supernodes.errors)
    with takes(margin=0.1):
        assert 404 == (await it.blob(other)).status
        assert 404 == (await it.get(f"/v2/other/manifests/{digest_of(b'')}?ns={REGISTRY}")).status
    assert (200, cached.content) == (await it.blob(cached))[::2]


async def test_sigterm_ends_a_body_with_fin(it: Lab) -> None:
    it.supernode.released = 0b1
    await it.begin_pull()
    async with it.asked(it.layer) as answer:
        await it.life.aclose()
        assert LAYER[:PIECE] == await answer.body()


async def test_several_requests_use_one_connection(it: Lab) -> None:
    await it.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", it.peer.mirror.port)
    for path in (it.image.path(), it.image.blob(it.layer), "/v2/", it.image.blob(it.image.config)):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        assert head.startswith("http/1.1 404" if path == "/v2/" else "http/1.1 200")
    writer.close()


# Private repositories


async def test_a_challenge_is_relayed_and_credentials_are_for_one_client(
    it: Lab, capfd: pytest.CaptureFixture[str]
) -> None:
    it.image.authorization = PRIVATE
    await it.start()
    assert 401 == (await it.manifest()).status
    assert 401 == (await it.manifest(Authorization="Basic wrong")).status
    assert 404 == (await it.blob(it.layer)).status
    assert (200, it.image.manifest) == (await it.manifest(Authorization=PRIVATE))[::2]
    assert (200, LAYER) == (await it.blob(it.layer, Authorization=PRIVATE))[::2]
    assert 404 == (await it.blob(it.layer)).status, "the cached blob is not public"
    assert 404 == (await it.blob(it.layer, Authorization="Basic wrong")).status
    assert 401 == (await it.manifest()).status, "the cached manifest is not public"
    await it.until_nothing_is_wanted()
    assert {PRIVATE} == {wants[it.layer.task_id].credential for wants in it.supernode.wanted if wants}
    assert "c2VjcmV0" not in repr(it.supernode.requests)
    assert "c2VjcmV0" not in "".join(capfd.readouterr())
    assert not [path for path in it.folder.rglob("*") if path.is_file() and b"c2VjcmV0" in path.read_bytes()]


@pytest.mark.parametrize(
    ("sent", "relayed"),
    [("Bücher".encode(), "Bücher"), (b"B\xfccher", "Bücher"), (b"books", "books")],
    ids=["UTF-8", "latin-1", "ASCII"],
)
async def test_a_realm_may_have_any_bytes(it: Lab, sent: bytes, relayed: str) -> None:
    it.image.authorization = PRIVATE
    it.supernode.challenges = (headers.of_bytes(b'Basic realm="' + sent + b'"'),)
    await it.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", it.peer.mirror.port)
    writer.write(f"GET {it.image.path()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 401")
    assert f'\r\nWWW-Authenticate: Basic realm="{relayed}"\r\n'.encode() in head


async def test_a_rejected_manifest_is_rejected_also_below_blobs(it: Lab) -> None:
    """Containerd 2.4 asks there after a rejection. A 404 means to the user that the image does not exist."""
    it.image.authorization = PRIVATE
    await it.start()
    path = it.image.path().replace("/manifests/", "/blobs/")
    status, headers, _ = await it.get(path, method="HEAD")
    assert (401, it.supernode.challenges[-1].lower()) == (status, headers["www-authenticate"])
    assert 404 == (await it.get(path)).status
    assert 404 == (await it.blob(it.layer, method="HEAD")).status


async def test_a_blob_is_served_only_in_the_repository_whose_manifest_names_it(it: Lab) -> None:
    await it.start()
    assert 404 == (await it.blob(it.layer)).status
    await it.manifest()
    assert 200 == (await it.blob(it.layer)).status
    assert 404 == (await it.get(replace(it.image, repository="other").blob(it.layer))).status
    assert 404 == (await it.get(it.image.blob(it.layer, ns="other.example"))).status


# Requests of other programs


async def test_a_path_that_is_not_of_the_pull_api_is_404(it: Lab) -> None:
    await it.start()
    a_digest = digest_of(b"")
    for path in (
        *("/v2/", "//v2/", "/%00", "/metrics", f"/v2/../../etc/passwd?ns={REGISTRY}", f"/v2/a/tags/list?ns={REGISTRY}"),
        f"/v2/library/thing/manifests/{a_digest}",
        f"/v2/library/thing/manifests/latest?ns={REGISTRY}",
        f"/v2/a/blobs/{a_digest}?ns={REGISTRY}&ns={REGISTRY}",
    ):
        assert 404 == (await it.get(path)).status, path
    assert [] == it.supernode.asked


async def test_the_base_exists_and_no_method_writes(it: Lab) -> None:
    await it.start()
    assert 200 == (await it.get(f"/v2/?ns={REGISTRY}")).status
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        status, headers, _ = await it.get(f"/v2/a/blobs/uploads/?ns={REGISTRY}", method=method)
        assert (405, "get, head") == (status, headers["allow"])


async def test_requests_that_are_not_http_are_rejected(it: Lab) -> None:
    await it.start()
    for garbage in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 70_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", it.peer.mirror.port)
        writer.write(garbage + b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read(100)).startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        writer.close()
        assert 200 == (await it.manifest()).status


async def test_a_mirror_with_a_token_serves_only_requests_that_contain_it(it: Lab) -> None:
    await it.start_with_token()
    assert 404 == (await it.manifest()).status
    assert 404 == (await it.manifest(X_Pantala_Mirror="wrong")).status
    assert 200 == (await it.manifest(X_Pantala_Mirror="right")).status


async def test_a_tag_is_resolved_only_if_that_is_enabled(it: Lab) -> None:
    await it.start(mirror_resolve=True)
    status, headers, body = await it.get(f"/v2/{it.image.repository}/manifests/latest?ns={REGISTRY}")
    assert (200, it.image.digest, it.image.manifest) == (status, headers["docker-content-digest"], body)
    assert 200 == (await it.blob(it.image.config)).status


async def test_a_probe_is_404_and_shows_if_it_came_by_our_hosts_toml(it: Lab) -> None:
    await it.start_with_token()
    by_name = "/v2/probe/node-1/manifests/1"
    by_file, found = f"{by_name}?ns=localhost%3A{it.peer.mirror.port}", []
    for path, token in ((by_file, "right"), (by_file, ""), (by_name, ""), (by_file, "wrong")):
        headers = {"X_Pantala_Mirror": token} if token else {}
        assert 404 == (await it.get(path, method="HEAD", **headers)).status
        probe = it.peer.mirror.server.last_probe()
        assert probe is not None
        assert "node-1" == probe.node
        assert probe.at > 1e9
        found.append(probe.in_force)
    assert [True, True, False, False] == found, "the second request is to the file's server, which is asked last"
    assert [] == it.supernode.asked
