"""Puts images into real registries, and pulls them through a peer's mirror."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from pantala_peer.app import PeerApp
from testbed.image import Image, push
from testbed.registry import Registry
from tests.support.eventually import eventually
from tests.support.fake_registry import basic, sha256
from tests.support.scripted_images import get

ANN = ("ann", "s3cr3t-of-ann")
ACCOUNTS = dict([ANN])
SHOWN = basic(*ANN)


@contextmanager
def registry_of(image: Image, folder: Path, *, private: bool = False) -> Iterator[Registry]:
    """A registry with ``image`` as ``team/app:1`` and an empty log. Only ann may read a private one."""
    with Registry(folder, accounts=ACCOUNTS if private else {}) as registry:
        push(image, registry.host, "team/app", "1", account=ANN if private else None)
        registry.forget()
        yield registry


async def _read(peer: PeerApp, registry: Registry, kind: str, digest: str, shown: str) -> None:
    """Read one digest from a node's mirror, and check its content."""
    headers = {"Authorization": shown} if shown else {}
    path = f"/v2/team/app/{kind}/{digest}?ns={registry.host}"
    status, answered, body = await get(peer.mirror.port, path, **headers)
    assert (200, digest) == (status, answered.get("docker-content-digest"))
    assert digest == sha256(body)


async def pull_manifests(peer: PeerApp, registry: Registry, image: Image, *, shown: str = "") -> None:
    for digest in (image.digest, image.manifests["linux/amd64"]):
        await _read(peer, registry, "manifests", digest, shown)


async def pull(peer: PeerApp, registry: Registry, image: Image, *, shown: str = "") -> None:
    """Pull a whole image through a node's mirror, with the requests of a container runtime."""
    await pull_manifests(peer, registry, image, shown=shown)
    for digest in of_amd64(image):
        await _read(peer, registry, "blobs", digest, shown)


def of_amd64(image: Image) -> dict[str, int]:
    manifest = json.loads(image.read(image.manifests["linux/amd64"]))
    return {described["digest"]: described["size"] for described in (manifest["config"], *manifest["layers"])}


def largest(image: Image) -> tuple[str, int]:
    """The digest and the size of the largest blob."""
    return max(of_amd64(image).items(), key=lambda described: described[1])


async def sent(registry: Registry) -> dict[str, int]:
    """The bytes that the registry has sent of each blob. It logs a request after its end, so another one follows."""
    last = f"/last/{secrets.token_hex(4)}"
    async with aiohttp.ClientSession() as session, session.get(registry.url + last) as answer:
        await answer.read()
    await eventually(lambda: last in (access.path for access in registry.requests()))
    return dict(registry.blob_bytes())
