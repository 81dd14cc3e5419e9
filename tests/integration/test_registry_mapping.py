"""Registries that are reached only at endpoints of an administrator's choice."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from pantala_protocol import image
from pantala_protocol.image import ImageRepository
from pantala_supernode.origin.body import Layout
from pantala_supernode.origin.source import Resume
from pantala_supernode.registry import errors
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.mapping import grammar
from pantala_supernode.registry.platform import Platform
from pantala_supernode.tasks.copy import FileSource
from tests.support.fake_registry import LAYER, PASSWORD, Clock, FakeRegistry, TokenServer, basic, service, sha256
from tests.support.scripted_images import get
from tests.support.supernode_lab import SupernodeLab

NGINX = image.parse("docker.io/library/nginx:1")
HUB = ImageRepository("docker.io", "library/nginx")
AMD64 = [Platform("linux", "amd64")]
ANN = RegistryAccount("ann", PASSWORD)
Change = Callable[[FakeRegistry], None]


def mapped(*urls: str, registry: str = "docker.io") -> RegistryEndpoints:
    return grammar.listed(",".join(f"{registry}={url}" for url in urls), "", only=False)


@pytest.fixture
async def first() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as made:
        made.push("1")
        yield made


@pytest.fixture
async def second() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as made:
        made.push("1")
        yield made


def blob(endpoints: RegistryEndpoints, account: RegistryAccount = ANONYMOUS) -> FileSource:
    digest = sha256(LAYER)
    return FileSource(endpoints.blob(HUB, digest), {"Authorization": account.authorization} if account else {}, digest)


async def read(
    endpoints: RegistryEndpoints, account: RegistryAccount = ANONYMOUS, resume: Resume | None = None
) -> bytes:
    async with service(endpoints) as opened, opened.reader.open(blob(endpoints, account), resume) as answer:
        return b"".join([bytes(block) async for block in answer.body.blocks(Layout(65536))])


async def test_a_tag_and_a_blob_come_from_below_the_endpoints_path(first: FakeRegistry) -> None:
    endpoints = mapped(f"{first.url}/v2/dockerhub")
    async with service(endpoints) as opened:
        found = await opened.client.resolve(NGINX, AMD64, Keyring())
    assert sha256(first.manifests["1"][1]) == found.digest
    assert LAYER == await read(endpoints)
    assert {"/v2/dockerhub/library/nginx"} == {asked.path.rsplit("/", 2)[0] for asked in first.asked}
    assert LAYER[5:9] == await read(endpoints, resume=Resume(5, 9))


async def test_the_secret_of_the_registry_is_sent_to_its_endpoint(first: FakeRegistry) -> None:
    first.accounts = {"ann": PASSWORD}
    endpoints = mapped(f"{first.url}/v2/hub")
    async with service(endpoints) as opened:
        await opened.client.resolve(NGINX, AMD64, Keyring([("https://index.docker.io/v1/", ANN)]))
    assert LAYER == await read(endpoints, ANN)
    async with service(endpoints) as opened:
        with pytest.raises(errors.RegistryUnauthorizedError, match=f"docker.io/library/nginx:1 at {first.url}/v2/hub"):
            await opened.client.resolve(NGINX, AMD64, Keyring([(first.host, ANN)]))


async def test_a_token_is_asked_for_with_the_path_behind_the_endpoint(first: FakeRegistry) -> None:
    async with TokenServer() as tokens:
        first.tokens = tokens
        first.challenge = f'Bearer realm="{tokens.url}/token",service="harbor"'
        assert LAYER == await read(mapped(f"{first.url}/v2/hub"))
    assert ("scope", "repository:hub/library/nginx:pull") in tokens.asked[0].query


def status(code: int) -> Change:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code)

    def change(registry: FakeRegistry) -> None:
        registry.faults["/"] = answer

    return change


def basic_challenge(registry: FakeRegistry) -> None:
    registry.accounts = {"someone": "else"}


def other_bytes(registry: FakeRegistry) -> None:
    registry.manifests = dict.fromkeys(registry.manifests, ("application/json", b"{}"))


def empty(registry: FakeRegistry) -> None:
    registry.manifests.clear()
    registry.blobs.clear()


@pytest.mark.parametrize(
    "change", [status(500), status(502), status(503), status(429), status(404), status(410), empty]
)
async def test_the_next_endpoint_is_asked_for_what_the_first_does_not_give(
    first: FakeRegistry, second: FakeRegistry, change: Change
) -> None:
    change(first)
    endpoints = mapped(f"{first.url}/v2/hub", second.url)
    async with service(endpoints) as opened:
        assert sha256(second.manifests["1"][1]) == (await opened.client.resolve(NGINX, AMD64, Keyring())).digest
        assert (await opened.access.check(HUB, sha256(second.manifests["1"][1]))).allowed
    assert LAYER == await read(endpoints)


@pytest.mark.parametrize("dead", ["http://127.0.0.1:1", "https://127.0.0.1:1/v2/x", "http://nowhere.invalid"])
async def test_the_next_endpoint_is_asked_if_the_first_is_away(second: FakeRegistry, dead: str) -> None:
    endpoints = mapped(dead, second.url)
    async with service(endpoints) as opened:
        assert (await opened.client.resolve(NGINX, AMD64, Keyring())).platforms
    assert LAYER == await read(endpoints)


async def test_an_endpoint_that_was_away_is_asked_last_for_a_while(first: FakeRegistry, second: FakeRegistry) -> None:
    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    first.faults["/"] = cut
    clock = Clock()
    async with service(mapped(first.url, second.url), clock=clock) as opened:
        await opened.client.resolve(NGINX, AMD64, Keyring())
        tried = len(first.asked)
        await opened.client.resolve(NGINX, AMD64, Keyring())
        assert tried == len(first.asked)
        clock.now += 31
        first.faults.clear()
        await opened.client.resolve(NGINX, AMD64, Keyring())
        assert tried < len(first.asked)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (status(401), errors.RegistryUnauthorizedError),
        (status(403), errors.RegistryForbiddenError),
        (status(400), errors.RegistryError),
        (status(451), errors.RegistryError),
        (status(204), errors.InvalidAnswerError),
        (basic_challenge, errors.RegistryUnauthorizedError),
        (other_bytes, errors.InvalidManifestError),
    ],
)
async def test_a_refusal_and_an_invalid_answer_are_final(
    first: FakeRegistry, second: FakeRegistry, change: Change, expected: type[errors.RegistryError]
) -> None:
    digest = sha256(first.manifests["1"][1])
    change(first)
    async with service(mapped(first.url, second.url)) as opened:
        with pytest.raises(expected) as caught:
            await opened.client.manifest(HUB, digest)
    assert expected is type(caught.value)
    assert [] == second.asked


async def test_an_image_is_missing_only_if_no_endpoint_has_it(first: FakeRegistry, second: FakeRegistry) -> None:
    empty(first)
    empty(second)
    async with service(mapped(first.url, second.url)) as opened:
        with pytest.raises(errors.ImageNotFoundError, match=first.url):
            await opened.client.resolve(NGINX, AMD64, Keyring())
    for away in (mapped(first.url, "http://127.0.0.1:1"), mapped("http://127.0.0.1:1", first.url)):
        async with service(away) as opened:
            with pytest.raises(errors.RegistryUnreachableError, match=r"127\.0\.0\.1:1"):
                await opened.client.resolve(NGINX, AMD64, Keyring())


async def test_the_challenge_of_the_endpoint_is_relayed(first: FakeRegistry) -> None:
    first.accounts = {"ann": PASSWORD}
    async with service(mapped(f"{first.url}/v2/hub")) as opened:
        verdict = await opened.access.check(HUB, sha256(first.manifests["1"][1]))
        assert (False, ('Basic realm="fake"',)) == verdict
        assert (await opened.access.check(HUB, sha256(first.manifests["1"][1]), basic("ann", PASSWORD))).allowed


async def test_the_mirror_of_a_node_keeps_the_name_of_the_registry(first: FakeRegistry, tmp_path: Path) -> None:
    endpoints = mapped(f"{first.url}/v2/hub")
    index = json.loads(first.manifests["1"][1])
    async with SupernodeLab(tmp_path, registries=endpoints) as lab:
        await lab.state()
        port = (await lab.mirror("n1")).mirror.port
        for digest in (sha256(first.manifests["1"][1]), index["manifests"][0]["digest"]):
            answer = await get(port, f"/v2/library/nginx/manifests/{digest}?ns=docker.io")
            assert (200, first.manifests[digest][1]) == (answer.status, answer.body)
        answer = await get(port, f"/v2/library/nginx/blobs/{sha256(LAYER)}?ns=docker.io")
        assert (200, LAYER) == (answer.status, answer.body)
    assert ["/v2/hub/library/nginx/blobs"] == [
        asked.path.rpartition("/")[0] for asked in first.asked if "/blobs/" in asked.path
    ]
