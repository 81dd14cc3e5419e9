"""Mutual TLS between operator, supernode and peers: what is refused, what is renewed, and what an observer sees."""

import asyncio
import hashlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pantala_operator.authority.rotation import AuthorityTiming
from pantala_process.tls import authority, certificates
from pantala_process.tls.keeper import FILE
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from pantala_protocol.sync import PieceFailure
from pantala_supernode.http import clients
from testbed.certificates import ProcessAuthority
from tests.support.capture import PacketCapture
from tests.support.eventually import eventually
from tests.support.fake_registry import FakeRegistry
from tests.support.tls_lab import DAY, OPERATOR, PEER, SUPERNODE, TLSLab, every

SIZE = 3_000_000
SECRET = "a-password-of-the-origin"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[TLSLab]:
    async with TLSLab(tmp_path) as made:
        yield made


def wanted(url: str, content: bytes, *peers: str, **more: Any) -> WantedTask:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return WantedTask(
        uid="uid", name="ns/file", task_id=task_id.compute(url), url=url, digest=digest, path="ns/file", peers=peers,
        **more,
    )  # fmt: skip


def exchange(node: str) -> bytes:
    return json.dumps({"peer": node, "boot": "thief", "seq": 1, "inventory": {}}).encode()


async def chunked(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.parametrize("how", ["exchange", "chunked exchange", "manifest"])
async def test_h7_a_node_that_takes_much_time_waits_and_no_other_node(
    lab: TLSLab, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A chunked body and a manifest are served by aiohttp, any other exchange by the front."""
    monkeypatch.setattr(clients, "_SHARE", 1e-7)
    monkeypatch.setattr(clients, "_BURST", 0.0)
    await lab.start_supernode()
    await lab.state()

    async with FakeRegistry() as registry:
        query = f"registry={registry.host}&repository=team/app&reference={registry.push('1')}"

        async def call(node: str) -> int:
            contexts, token = lab.contexts_of(f"{node}.peer.pantala"), lab.token_file(PEER, node).read_text()
            if how == "manifest":
                return await lab.call(f"/api/v1/registry/manifests?{query}", contexts, token)
            data = exchange(node)
            return await lab.call("/api/v1/sync", contexts, token, data if how == "exchange" else chunked(data))

        assert 200 == await call("node-1")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await call("node-1")
        assert 200 == await call("node-2")


async def test_a17_an_observer_sees_no_token_no_secret_and_no_byte_of_a_file(lab: TLSLab) -> None:
    """The packets of the whole system are captured, but for those of the origin and the API server."""
    content = lab.serve(SIZE, "/f")
    await lab.start_supernode()
    peers = {name: await lab.start_peer(name) for name in ("node-1", "node-2")}
    await lab.connected(*peers)
    await eventually(lambda: all(_port(each) for each in peers.values()))
    try:
        capture = PacketCapture([*lab.ports.values(), *map(_port, peers.values())])
    except PermissionError:
        pytest.skip("capturing packets needs root's rights")
    with capture:
        url = lab.origin.url("/f")
        await lab.state(wanted(url, content, *peers, headers={"Authorization": f"Basic {SECRET}"}))
        await lab.published("ns/file", content, *peers)
        await lab.start_peer("node-3")  # it also asks for a certificate
        await lab.connected("node-3")
        await asyncio.sleep(0.5)
    assert 2 * SIZE < capture.size
    keys = [each.session.key for peer in peers.values() for each in peer.supernodes._links.values()]
    assert [] != [key for key in keys if key]
    for secret in (
        SECRET.encode(), b"Bearer", b"X-Pantala-Ticket", b"HTTP/1.1", b"ns/file", b'"statement"', b"sha256",
        *(lab.token_file(PEER, name).read_bytes()[-40:] for name in peers),
        *(key.hex().encode() for key in keys),
        *(content[first : first + 24] for first in range(0, SIZE - 24, 9973)),
    ):  # fmt: skip
        assert not capture.contains(secret), secret


async def test_the_capture_finds_what_plain_http_sends(lab: TLSLab) -> None:
    """The test above could not fail if the capture missed packets."""
    content = lab.serve(SIZE, "/f")
    try:
        capture = PacketCapture([int(lab.origin.url("/f").split(":")[2].split("/")[0])])
    except PermissionError:
        pytest.skip("capturing packets needs root's rights")
    await lab.start_supernode()
    with capture:
        await lab.state(wanted(lab.origin.url("/f"), content, headers={"Authorization": f"Basic {SECRET}"}))
        await eventually(lambda: capture.contains(SECRET.encode()) and capture.contains(content[-24:]), within=20)


async def test_h9_a_stolen_token_does_not_take_a_node_over(lab: TLSLab) -> None:
    await lab.start_supernode()
    await lab.start_peer("node-1")
    await lab.connected("node-1")
    stolen = lab.token_file(PEER, "node-1").read_text()
    before = lab.supernode.sync._sessions["node-1"].boot
    sync = "/api/v1/sync"
    assert 403 == await lab.call(sync, lab.contexts_of("node-2.peer.pantala"), stolen, exchange("node-1"))
    assert 403 == await lab.call(sync, lab.contexts_of("node-1.supernode.pantala"), stolen, exchange("node-1"))
    assert 403 == await lab.call(sync, lab.contexts_of("example.org"), stolen, exchange("node-1"))
    assert 0 == await lab.call(sync, None, stolen, exchange("node-1"))
    stranger = ProcessAuthority().contexts("node-1.peer.pantala", trusts=lab._authorities.read_bytes())
    assert 0 == await lab.call(sync, stranger, stolen, exchange("node-1"))
    expired = lab.contexts_of("node-1.peer.pantala", age=3 * 86400)
    assert 0 == await lab.call(sync, expired, stolen, exchange("node-1"))
    assert before == lab.supernode.sync._sessions["node-1"].boot
    assert 200 == await lab.call(sync, lab.contexts_of("node-1.peer.pantala"), stolen, exchange("node-1"))


@pytest.mark.parametrize(
    ("path", "subject", "good", "bad"),
    [
        ("/api/v1/changes", OPERATOR, "pod-1.operator.pantala", "pod-1.peer.pantala"),
        ("/api/v1/changes", OPERATOR, "pod-1.operator.pantala", "pod-2.operator.pantala"),
        ("/api/v1/copies/" + "a" * 64, SUPERNODE, "pod-1.supernode.pantala", "pod-2.supernode.pantala"),
        ("/api/v1/copies/" + "a" * 64, SUPERNODE, "pod-1.supernode.pantala", "pod-1.operator.pantala"),
    ],
)
async def test_h9_token_and_certificate_are_of_one_process(
    lab: TLSLab, path: str, subject: str, good: str, bad: str
) -> None:
    await lab.start_supernode()
    token = lab.issuer.token(subject, pod="pod-1")
    assert await lab.call(path, lab.contexts_of(good), token) in (200, 404)
    assert 403 == await lab.call(path, lab.contexts_of(bad), token)
    assert 401 == await lab.call(path, lab.contexts_of(good), "")


async def test_h9_a_server_with_another_name_gets_no_request(lab: TLSLab) -> None:
    """A peer and the operator refuse a supernode whose certificate has another name."""
    await lab.start_supernode()
    lab.supernode._tls.load("x.supernode.pantala", *_identity(lab, "x.supernode.pantala", "other"))  # type: ignore[union-attr]
    made = await lab.start_peer("node-1")
    await eventually(lambda: any("certificate" in each for each in made.supernodes.errors), within=20)
    with pytest.raises(Exception, match="certificate is not valid"):
        await lab.state()


async def test_h9_the_operator_signs_only_for_pantalas_tokens(lab: TLSLab) -> None:
    url, bundle = f"https://localhost:{lab.ports['operator']}", lab._authorities.read_bytes()
    key = certificates.new_key()
    request = certificates.signing_request(key)
    signed = await authority.sign(url, lab.token_file(PEER, "node-1"), request, bundle)
    assert ("node-1.peer.pantala",) == certificates.facts(signed).names
    for token, reason in (
        (lab.token_file("system:serviceaccount:other:peer", "node-1"), "403"),
        (lab.token_file(PEER, ""), "403"),
        (None, "401"),
    ):
        with pytest.raises(certificates.CertificateError, match=reason):
            await authority.sign(url, token, request, bundle)
    with pytest.raises(certificates.CertificateError, match="400"):
        await authority.sign(url, lab.token_file(PEER, "node-1"), b"nonsense", bundle)
    with pytest.raises(certificates.CertificateError, match="cannot be reached"):
        await authority.sign(url, lab.token_file(PEER, "node-1"), request, ProcessAuthority().bundle)
    lab.keeper._wall = lambda: time.time() + 36_500 * DAY
    with pytest.raises(certificates.CertificateError, match=r"503.*authority's certificate has expired"):
        await authority.sign(url, lab.token_file(PEER, "node-1"), request, bundle)


async def test_a_connection_for_certificates_ends_after_one_answer(lab: TLSLab) -> None:
    """A few clients that stay could otherwise keep all nodes out."""
    context = ssl.create_default_context(cafile=str(lab._authorities))
    reader, writer = await asyncio.open_connection("localhost", lab.ports["operator"], ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    async with asyncio.timeout(10):
        answers = await reader.read()
    writer.close()
    assert 1 == answers.count(b"HTTP/1.1 ")


async def test_processes_restart_while_the_operator_is_away(lab: TLSLab) -> None:
    content = lab.serve(SIZE, "/f")
    await lab.start_supernode()
    await lab.start_peer("node-1")
    await lab.connected("node-1")
    await lab.stop_operator()
    made = await lab.start_peer("node-2")
    await eventually(lambda: "cannot be reached" in " ".join(made.problems()), within=20)
    await lab.start_peer("node-1")  # with the files of the former process
    await lab.connected("node-1")
    await lab.state(wanted(lab.origin.url("/f"), content, "node-1", "node-2"))
    await lab.published("ns/file", content, "node-1")
    await lab.start_operator()
    await lab.published("ns/file", content, "node-2")


async def test_h9_the_authority_rotates_under_load_without_a_failed_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates live for a second or two here. Each process renews and reloads many times while files arrive."""
    timing = AuthorityTiming(authority=9.0, certificate=3.0, overlap=1.0)
    async with TLSLab(tmp_path, timing) as lab:
        signing = asyncio.create_task(every(0.2, lab.sign))
        await lab.start_supernode()
        peers = {name: await lab.start_peer(name) for name in ("node-1", "node-2")}
        await lab.connected(*peers)
        seen, names = set(), set()
        failures: list[PieceFailure] = []
        monkeypatch.setattr(lab.supernode.dispatcher, "failed", lambda _session, failure: failures.append(failure))
        for number in range(14):
            content = lab.serve(400_000 + number, f"/f{number}")
            await lab.state(wanted(lab.origin.url(f"/f{number}"), content, *peers))
            await lab.published("ns/file", content, *peers)
            seen.add((tmp_path / "node-1-tls" / FILE).read_bytes())
            names.add(lab.keeper._state.current.certificate)  # type: ignore[union-attr]
            await asyncio.sleep(0.7)
        signing.cancel()
        assert len(seen) >= 4
        assert len(names) >= 2
        assert [] == failures


def _port(peer: Any) -> int:
    links = list(peer.supernodes._links.values())
    node = getattr(peer.supernodes, "_node", None)
    return node.port if node is not None and links else 0


def _identity(lab: TLSLab, *names: str) -> tuple[bytes, bytes]:
    issuer = lab.keeper._state.current
    assert issuer is not None
    key = certificates.new_key()
    signed = lab.keeper.sign(certificates.signing_request(key), names)
    return key + signed, lab._authorities.read_bytes()
