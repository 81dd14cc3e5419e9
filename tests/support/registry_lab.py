"""A scripted registry, and the supernode's service that uses it."""

import asyncio
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from pantala_protocol import image
from pantala_protocol.image import ImageReference, ImageRepository
from pantala_supernode.errors import SourceError
from pantala_supernode.origin.body import Layout
from pantala_supernode.origin.source import Resume
from pantala_supernode.registry.client import ResolvedImage
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.manifest import OCI_INDEX, OCI_MANIFEST
from pantala_supernode.registry.platform import Platform
from pantala_supernode.registry.service import RegistryService
from pantala_supernode.tasks.copy import FileSource
from tests.support.fake_registry import LAYER, PASSWORD, Clock, FakeRegistry, Handler, sha256

AMD64 = Platform("linux", "amd64")
ANN = RegistryAccount("ann", PASSWORD)


@dataclass
class RegistryLab:
    """A registry, and the supernode's service that uses it."""

    registry: FakeRegistry
    opened: RegistryService
    clock: Clock = field(default_factory=Clock)

    @property
    def name(self) -> ImageReference:
        return image.parse(f"{self.registry.host}/team/app:1")

    @property
    def repository(self) -> ImageRepository:
        return ImageRepository(self.registry.host, "team/app")

    def keys(self, account: RegistryAccount = ANN) -> Keyring:
        return Keyring([(self.registry.host, account)])

    async def resolve(self, keys: Keyring | None = None) -> ResolvedImage:
        return await self.opened.client.resolve(self.name, [AMD64], keys or Keyring())

    async def read(self, account: RegistryAccount = ANONYMOUS, resume: Resume | None = None) -> bytes:
        headers = {"Authorization": account.authorization} if account else {}
        blob = FileSource(f"{self.registry.url}/v2/team/app/blobs/{sha256(LAYER)}", headers, sha256(LAYER))
        async with self.opened.reader.open(blob, resume) as answer:
            return b"".join([block async for block in answer.body.blocks(Layout(65536))])

    async def failure(self, keys: Keyring | None = None) -> SourceError:
        with pytest.raises(SourceError) as caught:
            await self.resolve(keys)
        return caught.value


def elsewhere(other: FakeRegistry) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{other.url}{request.path}"})

    return answer


# -- faults


def give(body: bytes, media_type: str = OCI_MANIFEST, status: int = 200, **headers: str) -> Handler:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={"Content-Type": media_type, **headers})

    return answer


def refuse(status: int, **headers: str) -> Handler:
    return give(b"", status=status, **headers)


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": OCI_INDEX, "Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b'{"schemaVersion"')
    if request.transport is not None:
        request.transport.close()
    return response


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()
