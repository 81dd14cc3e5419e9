"""Servers that end TLS early, or do not speak it."""

import asyncio
import contextlib
import socket
import ssl
import struct
from pathlib import Path

import pytest
import trustme

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.errors import Fault, OutboundError
from pantala_supernode.outbound.request import Request
from pantala_supernode.outbound.trust import Trust
from tests.support.eventually import eventually
from tests.support.outbound import local_egress, raw_server
from tests.support.raw_answers import OK, Kept


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_during_the_tls_handshake_says_nothing_about_the_certificate(*, reset: bool) -> None:
    """A load balancer that restarts does this. The next try comes soon, and a registry's next endpoint is tried."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 if reset else 65_536)
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with raw_server(cut) as url, OutboundClient(egress=local_egress()) as client:
        with pytest.raises(OutboundError) as caught:
            await client.send(Request(url.replace("http:", "https:"), {}), Kept())
    assert Fault.INTERRUPTED is caught.value.fault
    assert "cut the connection (in the TLS handshake)" == str(caught.value)


async def test_a_server_without_tls_is_named_as_such() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()  # until the client has understood and ends the connection

    async with raw_server(plain) as url, OutboundClient(egress=local_egress()) as client:
        with pytest.raises(OutboundError) as caught:
            await client.send(Request(url.replace("http:", "https:"), {}), Kept())
    assert Fault.NO_TLS is caught.value.fault


@pytest.mark.parametrize(
    ("framing", "reset", "complete"),
    [
        ("Content-Length: 9", False, False),
        ("Transfer-Encoding: chunked", False, False),
        ("Connection: close", False, True),
        ("Connection: close", True, False),
    ],
)
async def test_the_end_of_a_connection_with_tls_ends_only_a_body_without_framing(
    tmp_path: Path, framing: str, *, reset: bool, complete: bool
) -> None:
    """The server ends the connection without the message that TLS demands. Only a digest can show if this is a cut."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{OK}{framing}\r\n\r\n9\r\nbody".encode())
        await eventually(lambda: sink.data.endswith(b"body"))  # a reset would take away what the client has not read
        own = writer.get_extra_info("socket")
        if reset:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            own.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            await reader.read()

    trust, sink = Trust([("127.0.0.1", tmp_path / "ca.pem")]), Kept()
    async with raw_server(serve, tls) as url, OutboundClient(egress=local_egress(), trust=trust) as client:
        if complete:
            await client.send(Request(url, {}), sink)
            assert b"9\r\nbody" == sink.data
            return
        with pytest.raises(OutboundError) as caught:
            await client.send(Request(url, {}), sink)
    assert Fault.INTERRUPTED is caught.value.fault
