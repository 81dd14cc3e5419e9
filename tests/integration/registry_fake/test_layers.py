"""What a registry sends for a layer."""

import asyncio
import gzip
from pathlib import Path

import pytest
from aiohttp import web

from pantala_protocol.image import ImageRepository
from pantala_protocol.reasons import Reason
from pantala_supernode.origin.body import Layout
from pantala_supernode.registry import errors
from pantala_supernode.registry.manifest import OCI_MANIFEST
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from tests.support.cdn import TASK, CDNBench
from tests.support.fake_registry import LAYER, FakeRegistry, service, sha256
from tests.support.registry_lab import ANN, RegistryLab, give, refuse


async def test_a_missing_or_forbidden_blob_is_an_error_of_the_registry(lab: RegistryLab) -> None:
    await lab.resolve()
    for status, expected in ((404, errors.ImageNotFoundError), (403, errors.RegistryForbiddenError)):
        lab.registry.faults["/blobs/"] = refuse(status)
        with pytest.raises(expected, match="blob"):
            await lab.read()


async def test_a_rate_limit_while_the_supernode_asks_for_a_challenge_is_not_a_refusal(lab: RegistryLab) -> None:
    await lab.resolve()

    async def limited(request: web.Request) -> web.StreamResponse | None:
        return await (refuse(429, Retry_After="7") if request.method == "HEAD" else refuse(401))(request)

    lab.registry.faults["/blobs/"] = limited
    with pytest.raises(errors.RateLimitedError) as caught:
        await lab.read()
    assert 7.0 == caught.value.retry_after


@pytest.mark.parametrize(
    "label", ["x-gzip", "gzip", "GZIP", "aws-chunked", "none", "utf-8", "binary", "identity", "zstd", "br", ""]
)
async def test_the_digest_of_a_layer_decides_and_not_a_label(lab: RegistryLab, label: str) -> None:
    lab.registry.faults["/blobs/"] = give(LAYER, "application/octet-stream", Content_Encoding=label)
    assert LAYER == await lab.read()


@pytest.mark.parametrize("label", ["gzip", "x-gzip", "none", "utf-8", "aws-chunked", "identity", "br", "zstd"])
async def test_a_label_on_a_readable_manifest_means_nothing(lab: RegistryLab, label: str) -> None:
    media_type, body = lab.registry.manifests["1"]
    labelled = give(body, media_type, Content_Encoding=label, Docker_Content_Digest=sha256(body))
    lab.registry.faults[f"/manifests/{sha256(body)}"] = labelled
    assert (await lab.resolve()).platforms


@pytest.mark.parametrize("label", ["gzip", "X-GZIP"])
async def test_a_proxy_may_compress_a_manifest(lab: RegistryLab, label: str) -> None:
    media_type, body = lab.registry.manifests["1"]
    packed = give(gzip.compress(body), media_type, Content_Encoding=label, Docker_Content_Digest=sha256(body))
    lab.registry.faults[f"/manifests/{sha256(body)}"] = packed
    assert (await lab.resolve()).platforms


@pytest.mark.parametrize(
    "wrong", [b"", LAYER[:-1], LAYER + b"x", gzip.compress(LAYER), b"x" * len(LAYER), LAYER[1:], b"\0", LAYER * 2]
)
async def test_other_bytes_never_become_the_layer(lab: RegistryLab, tmp_path: Path, wrong: bytes) -> None:
    lab.registry.faults["/blobs/"] = give(wrong, "application/octet-stream", Content_Encoding="x-gzip")
    blob = FileSource(f"{lab.registry.url}/v2/team/app/blobs/{sha256(LAYER)}", {}, sha256(LAYER))
    async with CDNBench(tmp_path, lab.opened.reader) as bench:
        bench.cdn.trigger(FetchOrder(TASK, blob, retry_limit=0))
        assert Reason.DIGEST_MISMATCH == (await bench.failure()).reason


@pytest.mark.parametrize(
    "extra", [b"", b"x", b"{}", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100, b"x" * 70_000, b"\0"]
)
async def test_an_answer_to_head_may_have_a_body(extra: bytes) -> None:
    image_digest = "sha256:" + "a" * 64
    fields = (b"Content-Type: " + OCI_MANIFEST.encode(), b"Docker-Content-Digest: " + image_digest.encode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HEAD ")
        writer.write(b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: 7", *fields, b"", b"")) + extra)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server, service() as opened:
        repository = ImageRepository(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "team/app")
        for _ in range(2):
            assert (await opened.access.check(repository, image_digest, fresh=True)).allowed


async def test_a_registry_without_a_challenge_receives_no_credentials(lab: RegistryLab) -> None:
    await lab.resolve(lab.keys())
    assert LAYER == await lab.read(ANN)
    assert {""} == {asked.authorization for asked in lab.registry.asked}


async def test_other_urls_are_read_as_before(registry: FakeRegistry) -> None:
    registry.faults["/file"] = give(b"content")
    async with (
        service() as opened,
        opened.reader.open(FileSource(f"{registry.url}/file", {"Authorization": "Custom x"})) as answer,
    ):
        assert b"content" == b"".join([block async for block in answer.body.blocks(Layout(65536))])
    assert ["Custom x"] == [asked.authorization for asked in registry.asked]
