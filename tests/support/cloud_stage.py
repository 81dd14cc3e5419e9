"""Registries of clouds, read with the identity of a pod."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from pantala_protocol import image
from pantala_protocol.image import ImageReference
from pantala_supernode.origin.body import Layout
from pantala_supernode.registry.credentials import Keyring
from pantala_supernode.registry.platform import Platform
from pantala_supernode.registry.service import RegistryService
from pantala_supernode.tasks.copy import FileSource
from tests.support.cloud_lab import CloudLab, cloud_lab
from tests.support.clouds import ACR, ECR, PKG
from tests.support.fake_registry import LAYER, FakeRegistry, sha256

AMD64 = [Platform("linux", "amd64")]
HOUR = 3600
Environment = Callable[[CloudLab], dict[str, str]]


class Cloud(NamedTuple):
    """A registry, the environment of the pod, the steps of an exchange, and the life of its result."""

    name: str
    environment: Environment
    steps: list[str]
    life: float


CLOUDS = [
    Cloud(ECR, CloudLab.irsa, ["sts", "ecr"], 12 * HOUR),
    Cloud(PKG, CloudLab.google, ["google", "iam"], HOUR),
    Cloud(PKG, lambda lab: lab.google(impersonates=False), ["google"], HOUR),
    Cloud(ACR, CloudLab.azure, ["entra", "acr"], 3 * HOUR),
]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[CloudLab]:
    async with cloud_lab(tmp_path) as made:
        yield made


def name_at(registry: FakeRegistry) -> ImageReference:
    return image.parse(f"{registry.host}/team/app:1")


async def resolve(opened: RegistryService, registry: FakeRegistry, keys: Keyring | None = None) -> str:
    return (await opened.client.resolve(name_at(registry), AMD64, keys or Keyring())).digest


async def read(opened: RegistryService, registry: FakeRegistry, *, pod_identity: bool = True) -> bytes:
    url, digest = f"{registry.url}/v2/team/app/blobs/{sha256(LAYER)}", sha256(LAYER)
    async with opened.reader.open(FileSource(url, {}, digest, pod_identity=pod_identity)) as answer:
        return b"".join([bytes(block) async for block in answer.body.blocks(Layout(65536))])


def refusal(status: int, body: str) -> web.Response:
    return web.Response(status=status, text=body)
