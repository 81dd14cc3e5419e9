"""The mirror in a real peer: containerd gets correct bytes in time, or 404. No request hangs."""

import asyncio
import contextlib
import random
from collections.abc import Iterator

import pytest

from pantala_peer.mirror.deadlines import Deadlines
from tests.support.eventually import eventually
from tests.support.mirror_stage import LAYER, MirrorStage
from tests.support.mirror_stage import it as it
from tests.support.pieces import sha256 as digest_of
from tests.support.scripted_files import PIECE
from tests.support.scripted_images import OCI, REGISTRY, BlobFile, Image

HURRIED = Deadlines(manifest=0.8, small=0.8, blob=0.8, again=0.4, stall=0.8)


def layers(count: int) -> list[BlobFile]:
    return [BlobFile(str(number), random.Random(number).randbytes(2 * PIECE)) for number in range(count)]


@contextlib.contextmanager
def takes(*, at_least: float = 0.0, below: float = 10.0) -> Iterator[None]:
    begun = asyncio.get_running_loop().time()
    yield
    assert at_least <= asyncio.get_running_loop().time() - begun < below


async def test_a_pull_gets_manifest_config_and_layers(it: MirrorStage) -> None:
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


async def test_bytes_are_sent_while_pieces_arrive_in_any_order(it: MirrorStage) -> None:
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


async def test_the_last_client_that_disconnects_ends_the_demand(it: MirrorStage) -> None:
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
async def test_a_range_begins_at_its_first_byte(it: MirrorStage, header: str, start: int, end: int) -> None:
    await it.begin_pull()
    status, headers, body = await it.blob(it.layer, Range=header)
    assert (206, LAYER[start:end]) == (status, body)
    assert f"bytes {start}-{end - 1}/{len(LAYER)}" == headers["content-range"]
    assert start // PIECE == it.supernode.begun[0], "the urgent piece comes first"


async def test_a_range_waits_while_the_bytes_of_an_earlier_range_arrive(it: MirrorStage) -> None:
    """Containerd 2.1 can read one layer in parallel ranges. The last ones were late, and the mirror was left alone."""
    it.supernode.released = 0
    await it.begin_pull(mirror_deadlines=HURRIED)
    bounds = (f"bytes=0-{9 * PIECE - 1}", f"bytes={9 * PIECE}-")
    asking = [asyncio.create_task(it.blob(it.layer, Range=bound)) for bound in bounds]
    for piece in range(11):
        await asyncio.sleep(0.2)
        await it.supernode.release((2 << piece) - 1)
    answers = await asyncio.gather(*asking)
    assert [206, 206] == [answer.status for answer in answers]
    assert LAYER == b"".join(answer.body for answer in answers)
    assert 0 == it.peer.mirror.server.counts.late


async def test_a_range_beyond_the_end_is_416_and_an_invalid_range_gets_the_whole_blob(it: MirrorStage) -> None:
    await it.begin_pull()
    status, headers, _ = await it.blob(it.layer, Range=f"bytes={len(LAYER)}-")
    assert (416, f"bytes */{len(LAYER)}") == (status, headers["content-range"])
    for header in ("bytes=", "lines=1-2", "bytes=5-2", "bytes=0-1,5-6"):
        status, _, body = await it.blob(it.layer, Range=header)
        assert (200, LAYER) == (status, body), header


async def test_a_stalled_body_is_requested_again_and_ends_with_fin_and_its_rest_is_404_at_once(it: MirrorStage) -> None:
    it.supernode.released = 0b111
    await it.begin_pull(mirror_deadlines=HURRIED)
    async with it.asked(it.layer) as answer:
        assert LAYER[: 3 * PIECE] == await answer.body()  # a RST would raise
        assert b"" == await answer.reader.read()
    wanted = [wants[it.layer.task_id] for wants in it.supernode.wanted if wants]
    assert (1, 3 * PIECE) == (max(one.stalls for one in wanted), wanted[-1].position)
    with takes(below=HURRIED.blob):
        assert 404 == (await it.blob(it.layer, Range=f"bytes={3 * PIECE}-")).status
    assert 1 == it.peer.mirror.server.counts.broken


async def test_without_a_first_byte_no_head_is_sent_and_one_pull_waits_once(it: MirrorStage) -> None:
    it.supernode.released = 0
    it.image = it.supernode.add(Image(layers(4)))
    await it.begin_pull(mirror_deadlines=HURRIED)
    with takes(at_least=HURRIED.blob):
        answers = await asyncio.gather(*(it.blob(layer) for layer in it.image.layers[:3]))
    assert [404] * 3 == [answer.status for answer in answers]
    with takes(below=HURRIED.blob):
        assert 404 == (await it.blob(it.image.layers[3])).status
    await it.until_nothing_is_wanted()


async def test_cached_content_is_served_while_its_repository_is_left_alone(it: MirrorStage) -> None:
    it.image = it.supernode.add(Image(layers(2)))
    cached, other = it.image.layers
    await it.begin_pull(mirror_deadlines=HURRIED)
    assert 200 == (await it.blob(cached)).status
    it.supernode.released = 0
    assert 404 == (await it.blob(other)).status
    assert (200, cached.content) == (await it.blob(cached))[::2]
    assert (200, it.image.manifest) == (await it.manifest())[::2]


async def test_a_late_manifest_is_404_and_then_404_at_once(it: MirrorStage) -> None:
    it.supernode.manifest_delay = 30.0
    await it.start(mirror_deadlines=HURRIED)
    with takes(at_least=HURRIED.manifest):
        assert 404 == (await it.manifest()).status
    with takes(below=HURRIED.blob):
        assert 404 == (await it.manifest()).status


async def test_without_a_supernode_cached_content_is_served_and_the_rest_is_404_at_once(it: MirrorStage) -> None:
    it.image = it.supernode.add(Image(layers(2)))
    cached, other = it.image.layers
    await it.begin_pull()
    await it.blob(cached)
    await it.supernode_life.aclose()
    await eventually(lambda: it.peer.supernodes.errors)
    with takes(below=Deadlines().manifest):
        assert 404 == (await it.blob(other)).status
        assert 404 == (await it.get(f"/v2/other/manifests/{digest_of(b'')}?ns={REGISTRY}")).status
    assert (200, cached.content) == (await it.blob(cached))[::2]


async def test_sigterm_ends_a_body_with_fin(it: MirrorStage) -> None:
    it.supernode.released = 0b1
    await it.begin_pull()
    async with it.asked(it.layer) as answer:
        await it.life.aclose()
        assert LAYER[:PIECE] == await answer.body()


async def test_several_requests_use_one_connection(it: MirrorStage) -> None:
    await it.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", it.peer.mirror.port)
    for path in (it.image.path(), it.image.blob(it.layer), "/v2/", it.image.blob(it.image.config)):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        assert head.startswith("http/1.1 404" if path == "/v2/" else "http/1.1 200")
    writer.close()
