"""A scripted supernode with images for the mirror of a real peer, and a client on a plain socket."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from pantala_protocol import registry, task_id
from pantala_protocol.registry import BlobAnswer, ManifestAnswer
from pantala_protocol.sync import PieceWork, SyncRequest, WantedBlob
from tests.support.pieces import sha256
from tests.support.scripted_files import File
from tests.support.scripted_supernode import Known, ScriptedSupernode

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
REGISTRY = "registry.example:5000"


@dataclass
class BlobFile(File):
    """A blob, as a task of its digest."""

    @cached_property
    def task_id(self) -> str:
        return task_id.of_blob(self.digest)

    @cached_property
    def digest(self) -> str:
        return sha256(self.content)


@dataclass
class Image:
    """An image with a configuration and layers. Its registry requires ``authorization``."""

    layers: list[BlobFile]
    config: BlobFile = field(default_factory=lambda: BlobFile("config", b'{"os":"linux"}'))
    repository: str = "library/thing"
    authorization: str = ""
    order: str = ""
    """The key of an order with valid pull secrets."""

    @property
    def manifest(self) -> bytes:
        def described(file: BlobFile) -> dict[str, object]:
            return {"mediaType": "application/x", "digest": file.digest, "size": len(file.content)}

        layers = [described(layer) for layer in self.layers]
        content = {"schemaVersion": 2, "mediaType": OCI, "config": described(self.config), "layers": layers}
        return json.dumps(content).encode()

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    @property
    def blobs(self) -> list[BlobFile]:
        return [self.config, *self.layers]

    @property
    def bytes(self) -> int:
        return sum(len(blob.content) for blob in self.blobs)

    def path(self, *, ns: str = REGISTRY) -> str:
        return f"/v2/{self.repository}/manifests/{self.digest}?ns={ns}"

    def blob(self, file: BlobFile, *, ns: str = REGISTRY) -> str:
        return f"/v2/{self.repository}/blobs/{file.digest.replace(':', '%3A')}?ns={ns}"


AnImage = TypeVar("AnImage", bound=Image)


class RegistrySupernode(ScriptedSupernode):
    """Gives work for wanted blobs: the urgent piece first, the others in any order, and only ``released`` pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = REGISTRY
        self.images: list[Image] = []
        self.blobs: dict[str, BlobFile] = {}
        self.wanted: list[dict[str, WantedBlob]] = []
        """The reported sets of wanted blobs, each change once."""
        self.asked: list[tuple[str, str]] = []
        """The requests for manifests, as reference and authorization."""
        self.asked_by: list[str] = []
        """The order's key of each request in ``asked``. Empty without an order."""
        self.manifest_delay = 0.0
        self.released: int | None = None
        """The pieces that the supernode may give, as a bit mask. ``None``: all."""
        self.challenges: tuple[str, ...] = ('Bearer realm="https://auth.example/token",service="x"', 'Basic realm="y"')
        self.rng = random.Random(7)
        self.begun: list[int] = []
        """The pieces for which work was given, in that order."""

    def add(self, image: AnImage) -> AnImage:
        self.images.append(image)
        self.blobs |= {file.task_id: file for file in image.blobs}
        return image

    async def release(self, pieces: int | None) -> None:
        self.released = pieces
        await self.notify()

    async def _manifest(self, request: web.Request) -> web.Response:
        assert self.registry == request.query["registry"]
        shown, reference = request.headers.get(registry.AUTHORIZATION, ""), request.query["reference"]
        order = request.query.get("order", "")
        self.asked.append((reference, shown))
        self.asked_by.append(order)
        await asyncio.sleep(self.manifest_delay)
        answer = ManifestAnswer()
        for image in self.images:
            if image.repository == request.query["repository"] and reference in (image.digest, "latest"):
                allowed = image.authorization in ("", shown) or bool(order and order == image.order)
                found = ManifestAnswer(image.digest, OCI, image.manifest)
                answer = found if allowed else ManifestAnswer(challenges=self.challenges)
        return web.Response(body=msgspec.json.encode(answer))

    async def _right(self, request: web.Request) -> web.Response:
        shown, order = request.headers.get(registry.AUTHORIZATION, ""), request.query.get("order", "")
        answer = BlobAnswer(refused=True)
        for image in self.images:
            allowed = image.authorization in ("", shown) or bool(order and order == image.order)
            for file in image.blobs if allowed and image.repository == request.query["repository"] else ():
                if file.digest == request.query["digest"]:
                    answer = BlobAnswer(file.generation, 300.0)
        return web.Response(body=msgspec.json.encode(answer))

    def _apply(self, known: Known, request: SyncRequest) -> None:
        super()._apply(known, request)
        if request.seq < known.seq:
            return
        if not self.wanted or self.wanted[-1] != request.wants:
            self.wanted.append(request.wants)
        kept = [self.blobs[name] for name in request.wants if name in self.blobs]
        held = [file for file, _ in self.assigned.get(request.peer, []) if file not in kept]
        chosen = [(file, ()) for file in [*held, *kept]]
        if chosen != self.assigned.get(request.peer, []):
            self.assigned[request.peer] = list(chosen)
            self.files |= {file.task_id: file for file, _ in chosen}
            self.revision += 1

    def _in_order(self, file: File, pieces: list[int]) -> list[int]:
        pieces = [number for number in pieces if self.released is None or self.released >> number & 1]
        self.rng.shuffle(pieces)
        if file.task_id in self.wanted[-1]:
            urgent = self.wanted[-1][file.task_id].position // file.piece_size
            pieces.sort(key=lambda number: number != urgent)
        return pieces

    def _one(self, file: File, number: int, asking: str) -> PieceWork:
        self.begun.append(number)
        return super()._one(file, number, asking)


class LeasingSupernode(RegistrySupernode):
    """Gives work only for wanted pieces, although the whole blob stays assigned, as a real supernode during a lease."""

    def _given(self, peer: str) -> list[File]:
        return [file for file in super()._given(peer) if file.task_id in self.wanted[-1]]


class Answer:
    """An answer of the mirror, with the rest of its connection."""

    def __init__(self, status: int, headers: dict[str, str], reader: asyncio.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self.reader = reader

    async def body(self, timeout: float = 10.0) -> bytes:
        """Read the announced body, or less if the connection ends by FIN. A RST raises an error."""
        async with asyncio.timeout(timeout):
            try:
                return await self.reader.readexactly(int(self.headers["content-length"]))
            except asyncio.IncompleteReadError as error:
                return error.partial


@contextlib.asynccontextmanager
async def asked(
    port: int, path: str, *, method: str = "GET", timeout: float = 10.0, **headers: str
) -> AsyncIterator[Answer]:
    """Send one request on its own connection. Yields after the head of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        fields = {"Host": "127.0.0.1", **headers}
        lines = (f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode())
        async with asyncio.timeout(timeout):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        yield Answer(int(head[0].split()[1]), fields, reader)
    finally:
        writer.close()


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def get(port: int, path: str, *, method: str = "GET", **headers: Any) -> Reply:
    async with asked(port, path, method=method, **headers) as answer:
        return Reply(answer.status, answer.headers, b"" if method == "HEAD" else await answer.body())
