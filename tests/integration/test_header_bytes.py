"""Headers above ASCII on the wire: of a Secret to an origin, of an origin back to it, of a registry to a peer."""

import asyncio
import base64
import json
import random
import re
from pathlib import Path
from typing import Self

import aiohttp
import msgspec
import pytest

from pantala_operator.plan.secrets import Headers
from pantala_operator.plan.secrets import headers as headers_of
from pantala_operator.resources.api import Metadata, Secret
from pantala_protocol import registry
from pantala_protocol.registry import ManifestAnswer
from pantala_protocol.rules import headers
from pantala_protocol.statement import CDNStatus, WantedTask
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from tests.support.cdn import TASK, CDNBench
from tests.support.outbound import http_reader
from tests.support.supernode_lab import SupernodeLab

ALLOWED = {"pantala.dev/allow": "tasks"}

BODY = random.Random(7).randbytes(300_000)
ETAG = b'"f\xfcr\x80\xff"'
DIGEST = "sha256:" + "a" * 64


class RawServer:
    """Answers bytes, and keeps the heads of requests as bytes."""

    def __init__(self, *fields: bytes, status: bytes = b"200 OK", body: bytes = BODY) -> None:
        self.heads: list[bytes] = []
        self.fields = fields
        self.status = status
        self.body = body
        self.host = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1")
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        unchanged = b"If-None-Match: " + ETAG in head
        status, body = (b"304 Not Modified", b"") if unchanged else (self.status, self.body)
        fields = [b"Content-Length: %d" % len(body), b"Connection: close", *self.fields]
        writer.write(b"HTTP/1.1 " + status + b"\r\n" + b"".join(b"%s\r\n" % field for field in fields) + b"\r\n")
        writer.write(b"" if head.startswith(b"HEAD") else body)
        await writer.drain()
        writer.close()

    def sent(self, name: bytes) -> list[bytes]:
        """The values of one header in all requests."""
        return [value for head in self.heads for value in re.findall(rb"(?im)^%s: (.*?)\r$" % name, head)]


@pytest.mark.parametrize(
    "value",
    [b"plain", "Schlüssel".encode(), "令牌 für Zoë".encode(), b"f\xfcr", bytes(range(0x80, 0x100)), b"a\tb"],
    ids=["ASCII", "UTF-8", "UTF-8 of three bytes", "latin-1", "all", "a tab"],
)
async def test_an_origin_receives_the_bytes_of_the_secret(tmp_path: Path, value: bytes) -> None:
    """From the Secret through the operator's statement, in JSON, to the wire."""
    async with RawServer() as origin, SupernodeLab(tmp_path) as lab:
        read = headers_of(
            "ns/s", Secret(Metadata("s", uid="u", labels=ALLOWED), {"X-Key": base64.b64encode(value).decode()})
        )
        assert isinstance(read, Headers)
        await lab.state(WantedTask("uid", "ns/t", TASK, f"http://{origin.host}/f", read.values))
        await lab.cached()
        assert {value} == set(origin.sent(b"X-Key"))


async def test_an_etag_goes_back_with_its_own_bytes_after_a_restart(tmp_path: Path) -> None:
    async with RawServer(b"ETag: " + ETAG) as origin, http_reader() as reader:
        order = FetchOrder(TASK, FileSource(f"http://{origin.host}/f", attempt="a"), stale_will_do=True)
        async with CDNBench(tmp_path, reader, fresh_for=60.0) as bench:
            bench.cdn.trigger(order)
            await bench.whole(BODY)
        (meta,) = tmp_path.rglob("meta.json")
        assert ETAG == headers.to_bytes(json.loads(meta.read_bytes())["etag"])
        async with CDNBench(tmp_path, reader, fresh_for=60.0) as bench:
            bench.now += 3600.0
            bench.cdn.trigger(order)
            copy = await bench.whole(BODY)
        assert CDNStatus.SUCCESS is copy.status
        assert [ETAG] == origin.sent(b"If-None-Match")


@pytest.mark.parametrize("realm", ["Bücher".encode(), b"B\xfccher", b"books"], ids=["UTF-8", "latin-1", "ASCII"])
async def test_a_realm_reaches_the_peer_with_its_own_bytes(tmp_path: Path, realm: bytes) -> None:
    challenge = b'Basic realm="' + realm + b'"'
    async with (
        RawServer(b"WWW-Authenticate: " + challenge, status=b"401 Unauthorized", body=b"") as server,
        SupernodeLab(tmp_path) as lab,
        aiohttp.ClientSession() as client,
    ):
        query = {"registry": server.host, "repository": "a/b", "reference": DIGEST}
        async with client.get(lab.url + registry.PATH, params=query) as answer:
            content = await answer.read()
            assert 200 == answer.status, content
    found = msgspec.json.decode(content, type=ManifestAnswer)
    assert [challenge] == [headers.to_bytes(value) for value in found.challenges]
