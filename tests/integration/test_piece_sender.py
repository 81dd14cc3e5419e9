"""The sender answers with the right bytes, or says why not."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from pantala_pieces.transfer.upload.fetches import FetchState
from pantala_process.tls.contexts import client_only
from pantala_protocol import ticket
from pantala_protocol.geometry import Wrapping
from testbed.certificates import DAY, ProcessAuthority
from tests.support.eventually import eventually
from tests.support.sender_stage import TASK, SenderStage, request

SERVER, CLIENT = "server.peer.pantala", "client.peer.pantala"
"""Names in certificates."""

SMALL, LARGE = 1000, 300_000
"""Sizes of pieces that are sent at once, and by the kernel."""


@pytest.fixture(scope="module")
def authority() -> ProcessAuthority:
    return ProcessAuthority()


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, authority: ProcessAuthority) -> dict[str, Any]:
    if request.param == "plain":
        return {}
    return {"tls": authority.contexts(SERVER)}


def stage(folder: Path, authority: ProcessAuthority, size: int, piece_size: int, **options: Any) -> SenderStage:
    made = SenderStage(folder, size, piece_size, **options)
    if "tls" in options:
        made.client_tls, made.server_name = authority.contexts(CLIENT).client, SERVER
        made.client_name = CLIENT
    return made


@pytest.mark.parametrize("piece_size", [SMALL, LARGE])
async def test_pieces_arrive_over_one_connection(
    tmp_path: Path, authority: ProcessAuthority, tls: dict[str, Any], piece_size: int
) -> None:
    it = stage(tmp_path, authority, 2 * piece_size + 7, piece_size, **tls)
    wrapping = Wrapping(piece_size)
    async with it.serving(), it.client() as client:
        for piece in (0, 2, 1):
            reply = await client.get(it.native(piece))
            assert (206, it.piece(piece), None) == (reply.status, reply.body, reply.field("Connection"))
            first = piece * piece_size
            assert f"bytes {first}-{first + len(reply.body) - 1}/{len(it.content)}" == reply.field("Content-Range")
            reply = await client.get(it.wrapped(piece))
            assert (206, wrapping.wrap(it.piece(piece))) == (reply.status, reply.body)
            first = piece * wrapping.wire_size
            assert f"bytes {first}-{first + len(reply.body) - 1}/*" == reply.field("Content-Range")
        reply = await client.get(it.native(0, Range=f"bytes=5-{2 * piece_size + 1}"))
        assert it.content[5 : 2 * piece_size + 2] == reply.body
        expected = 2 * len(it.content) + 3 * 5 + 2 * piece_size - 3
        await eventually(lambda: it.sender.log.bytes_sent == expected)
        assert 0 == it.sender.log.uploads


async def test_an_empty_file_is_one_wrapped_piece(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, 0, SMALL)
    async with it.serving(), it.client() as client:
        assert Wrapping(SMALL).wrap(b"") == (await client.get(it.wrapped(0))).body
        assert [404, 404] == [(await client.get(each)).status for each in (it.native(0), it.wrapped(1))]


async def test_requests_that_arrive_together_are_answered_in_order(
    tmp_path: Path, authority: ProcessAuthority, tls: dict[str, Any]
) -> None:
    it = stage(tmp_path, authority, 40 * SMALL, SMALL, **tls)
    pieces = list(range(40))
    async with it.serving(), it.client() as client:
        sent = b"".join(it.native(piece) + it.native(99) for piece in pieces)
        client.send(sent[:-10])
        await asyncio.sleep(0.05)
        client.send(sent[-10:])
        replies = [await client.reply() for _ in range(80)]
    assert [(206, it.piece(piece)) for piece in pieces] == [(each.status, each.body) for each in replies[::2]]
    assert {404} == {each.status for each in replies[1::2]}


async def test_a_request_may_arrive_one_byte_at_a_time(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving(), it.client() as client:
        for number in it.native(0):
            client.send(bytes([number]))
            await asyncio.sleep(0)
        assert it.content == (await client.reply()).body


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({ticket.HEADER: ""}, 403, "TicketInvalid"),
        ({ticket.HEADER: "node-1-99999999999.ab"}, 403, "TicketInvalid"),
        ({"task_id": "b" * 64}, 404, "NotHeld"),
        ({"Range": "bytes=0-1000"}, 404, "NotHeld"),
        ({"Range": ""}, 416, "RangeInvalid"),
        ({"Range": "bytes=-5"}, 416, "RangeInvalid"),
        ({"Range": "bytes=5-"}, 416, "RangeInvalid"),
        ({"Range": "bytes=5-4"}, 416, "RangeInvalid"),
        ({"Range": "bytes=0-1,3-4"}, 416, "RangeInvalid"),
        ({"Range": "lines=0-1"}, 416, "RangeInvalid"),
        ({"Range": "bytes=0-" + "9" * 30}, 416, "RangeInvalid"),
    ],
)
async def test_a_request_without_a_right_to_its_bytes_is_refused(
    tmp_path: Path, changes: dict[str, str], status: int, reason: str
) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving(), it.client() as client:
        for _ in range(2):
            reply = await client.get(it.native(0, **changes))
            assert (status, "application/json") == (reply.status, reply.field("Content-Type"))
            assert f'"reason":"{reason}"'.encode() in reply.body
        assert 206 == (await client.get(it.native(0))).status, "the connection stays open"
    await eventually(lambda: it.fetches == [(0, FetchState.BEGUN), (0, FetchState.SENT)])


async def test_a_ticket_is_not_remembered_beyond_its_task_its_key_or_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    other = it.add("b" * 64)
    async with it.serving(), it.client() as client:
        good = it.native(0)
        assert [206, 206] == [(await client.get(good)).status for _ in range(2)]
        assert 403 == (await client.get(good.replace(TASK.encode(), other.meta.task_id.encode()))).status
        with monkeypatch.context() as later:
            later.setattr(it.sender._admission, "_clock", lambda: 2e9)
            assert 403 == (await client.get(good)).status
        with monkeypatch.context() as without_key:
            without_key.setattr(it.sender._admission, "_keys", lambda: (b"other",))
            assert 403 == (await client.get(good)).status
        it.store.delete(TASK)
        assert 404 == (await client.get(good)).status


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("HEAD", 405), ("get", 405)])
async def test_another_method_ends_the_connection(tmp_path: Path, method: str, status: int) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving(), it.client() as client:
        client.send(request("/", {"Content-Length": "5"}, method=method), b"GET /")
        reader = client._reader
        answer = await reader.read(10_000)
        assert [str(status)] == re.findall(r"^HTTP/1.1 (\d+)", answer.decode(), re.MULTILINE)
        assert b"\r\nAllow: GET\r\n" in answer
        assert b"\r\nConnection: close\r\n" in answer
        assert await client.ended()


async def test_old_clients_say_whether_their_connection_stays(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    old = it.native(0).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with it.serving():
        async with it.client() as client:
            kept = await client.get(old.replace(b"Host: a", b"Connection: Keep-Alive"))
            assert ("keep-alive", it.content) == (kept.field("Connection"), kept.body)
            last = await client.get(old)
            assert ("close", it.content) == (last.field("Connection"), last.body)
            assert await client.ended()
        async with it.client() as client:
            client.send(it.native(0, Connection="close"), it.native(0))
            last = await client.reply()
            assert ("close", it.content) == (last.field("Connection"), last.body)
            assert await client.ended()


async def test_a_small_piece_is_one_packet(tmp_path: Path) -> None:
    it = SenderStage(tmp_path, SMALL, SMALL)
    async with it.serving(), it.client() as client:
        for number, each in enumerate((it.native(0), it.wrapped(0)), 1):
            await client.get(each)
            raw = client.writer.transport.get_extra_info("socket")
            info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            assert number == struct.unpack_from("I", info, 152)[0]  # tcpi_data_segs_in


async def test_a_client_that_does_not_finish_its_handshake_delays_no_other(
    tmp_path: Path, authority: ProcessAuthority
) -> None:
    it = stage(tmp_path, authority, SMALL, SMALL, tls=authority.contexts(SERVER))
    async with it.serving():
        _, silent = await asyncio.open_connection("127.0.0.1", it.port)
        reader, plain = await asyncio.open_connection("127.0.0.1", it.port)
        plain.write(it.native(0))
        async with it.client() as client:
            assert it.content == (await client.get(it.native(0))).body
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await asyncio.wait_for(reader.read(), 10)
        for writer in (silent, plain):
            writer.transport.abort()


@pytest.mark.parametrize("case", ["other client", "for any client", "no certificate", "other authority", "expired"])
async def test_h9_a_stolen_ticket_is_refused(tmp_path: Path, case: str) -> None:
    authority, other = ProcessAuthority(), ProcessAuthority()
    it = stage(tmp_path, authority, SMALL, SMALL, tls=authority.contexts(SERVER))
    async with it.serving():
        async with it.client() as client:
            assert 206 == (await client.get(it.native(0))).status
        stolen = it.native(0)
        if case == "for any client":
            it.client_name = ""
            stolen = it.native(0)
        elif case == "other client":
            it.client_tls = authority.contexts("thief.peer.pantala").client
        elif case == "no certificate":
            it.client_tls = client_only(authority.bundle)
        elif case == "other authority":
            it.client_tls = other.contexts(CLIENT, trusts=authority.bundle).client
        else:
            it.client_tls = authority.contexts(CLIENT, now=time.time() - 3 * DAY).client
        async with it.client() as client:
            if case in ("other client", "for any client"):
                assert 403 == (await client.get(stolen)).status
            else:
                with contextlib.suppress(ssl.SSLError):
                    client.send(stolen)
                with contextlib.suppress(ssl.SSLError):
                    assert await client.ended()
        assert len(it.content) == it.sender.log.bytes_sent


async def test_a_request_that_waits_for_its_slot_is_answered(
    tmp_path: Path, authority: ProcessAuthority, tls: dict[str, Any]
) -> None:
    """With TLS, the check that the client is still there must not mistake a silent client for a closed one."""
    it = stage(tmp_path, authority, LARGE, LARGE, slots=1, pace=lambda _size: 0.3, **tls)
    async with it.serving(), it.client() as one, it.client() as two:
        for client in (one, two):
            client.send(it.native(0))
        for client in (one, two):
            assert (206, it.content) == ((reply := await client.reply()).status, reply.body)
