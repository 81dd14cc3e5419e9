"""The mirror in a real peer: challenges of private repositories, and requests of other programs."""

import asyncio
import time
from dataclasses import replace

import pytest

from pantala_peer.mirror import service
from pantala_process.listening import file_limit
from pantala_protocol.rules import headers
from tests.support.mirror_stage import LAYER, MirrorStage
from tests.support.mirror_stage import it as it
from tests.support.pieces import sha256 as digest_of
from tests.support.scripted_images import REGISTRY

PRIVATE = "Basic c2VjcmV0"


# Private repositories


async def test_a_challenge_is_relayed_and_credentials_are_for_one_client(
    it: MirrorStage, capfd: pytest.CaptureFixture[str]
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
async def test_a_realm_may_have_any_bytes(it: MirrorStage, sent: bytes, relayed: str) -> None:
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


async def test_a_rejected_manifest_is_rejected_also_below_blobs(it: MirrorStage) -> None:
    """Containerd 2.4 asks there after a rejection. A 404 means to the user that the image does not exist."""
    it.image.authorization = PRIVATE
    await it.start()
    path = it.image.path().replace("/manifests/", "/blobs/")
    status, headers, _ = await it.get(path, method="HEAD")
    assert (401, it.supernode.challenges[-1].lower()) == (status, headers["www-authenticate"])
    assert 404 == (await it.get(path)).status
    assert 404 == (await it.blob(it.layer, method="HEAD")).status


async def test_a_blob_is_served_only_in_the_repository_whose_manifest_names_it(it: MirrorStage) -> None:
    await it.start()
    assert 404 == (await it.blob(it.layer)).status
    await it.manifest()
    assert 200 == (await it.blob(it.layer)).status
    assert 404 == (await it.get(replace(it.image, repository="other").blob(it.layer))).status
    assert 404 == (await it.get(it.image.blob(it.layer, ns="other.example"))).status


# Requests of other programs


async def test_a_path_that_is_not_of_the_pull_api_is_404(it: MirrorStage) -> None:
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


async def test_the_base_exists_and_no_method_writes(it: MirrorStage) -> None:
    await it.start()
    assert 200 == (await it.get(f"/v2/?ns={REGISTRY}")).status
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        status, headers, _ = await it.get(f"/v2/a/blobs/uploads/?ns={REGISTRY}", method=method)
        assert (405, "get, head") == (status, headers["allow"])


async def test_requests_that_are_not_http_are_rejected(it: MirrorStage) -> None:
    await it.start()
    for garbage in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 70_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", it.peer.mirror.port)
        writer.write(garbage + b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read(100)).startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        writer.close()
        assert 200 == (await it.manifest()).status


async def test_a_mirror_with_a_token_serves_only_requests_that_contain_it(it: MirrorStage) -> None:
    await it.start_with_token()
    assert 404 == (await it.manifest()).status
    assert 404 == (await it.manifest(X_Pantala_Mirror="wrong")).status
    assert 200 == (await it.manifest(X_Pantala_Mirror="right")).status


@pytest.mark.parametrize("request_", ["GET /v2/", "POST /v2/", "GET /v2/probe/node-1/manifests/1"])
async def test_h8_clients_without_the_token_do_not_keep_containerd_out(
    it: MirrorStage, monkeypatch: pytest.MonkeyPatch, request_: str
) -> None:
    """Any user of the node can reach the mirror, from the same address as containerd."""
    monkeypatch.setattr(service, "_SHARE", 16 / file_limit())
    await it.start_with_token()
    writers = []
    for _ in range(16):
        reader, writer = await asyncio.open_connection("127.0.0.1", it.peer.mirror.port)
        writers.append(writer)
        writer.write(f"{request_} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode())
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 4")
    assert 200 == (await it.manifest(X_Pantala_Mirror="right")).status
    for writer in writers:
        writer.close()


async def test_a_tag_is_resolved_only_if_that_is_enabled(it: MirrorStage) -> None:
    await it.start(mirror_resolve=True)
    status, headers, body = await it.get(f"/v2/{it.image.repository}/manifests/latest?ns={REGISTRY}")
    assert (200, it.image.digest, it.image.manifest) == (status, headers["docker-content-digest"], body)
    assert 200 == (await it.blob(it.image.config)).status


async def test_a_probe_is_404_and_counts_only_if_it_came_by_our_hosts_toml(it: MirrorStage) -> None:
    await it.start_with_token()
    by_name = "/v2/probe/node-1/manifests/1"
    by_file, found = f"{by_name}?ns=localhost%3A{it.peer.mirror.port}", []
    for path, token in ((by_file, "right"), (by_file, ""), (by_name, ""), (by_file, "wrong")):
        headers = {"X_Pantala_Mirror": token} if token else {}
        before = time.monotonic()
        assert 404 == (await it.get(path, method="HEAD", **headers)).status
        probe = it.peer.mirror.server.last_probe()
        assert probe is not None
        assert "node-1" == probe.node
        found.append(probe.at >= before)
    assert [True, False, False, False] == found, "other programs of the node can send the other requests"
    assert [] == it.supernode.asked
