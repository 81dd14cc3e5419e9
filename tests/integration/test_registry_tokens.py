"""A real registry with a token server."""

import json
import urllib.request
from collections.abc import Iterator

import pytest

from pantala_protocol import image
from pantala_supernode.registry import challenge
from pantala_supernode.registry.credentials import Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import ImageRepository
from pantala_supernode.registry.platform import Platform
from pantala_supernode.tasks.copy import FileSource
from testbed import registry as testbed_registry
from testbed.image import Image, Layer, build, push
from testbed.registry import Registry
from testbed.tokens import TokenRequest, TokenServer
from tests.support.fake_registry import basic, service

pytestmark = pytest.mark.skipif(
    not testbed_registry.installed(), reason="docker-registry is not installed: apt-get install docker-registry"
)
AMD64 = Platform("linux", "amd64")
ANN = RegistryAccount("ann", "ann's secret")
PULL = ("repository:team/app:pull",)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("image"), [Layer(100_000, seed=1)])


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with TokenServer(tmp_path_factory.mktemp("tokens"), {ANN.username: ANN.password}) as server:
        yield server


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer, app: Image) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry"), tokens=tokens) as registry:
        for repository in ("team/app", "public/app"):
            push(app, registry.host, repository, "1", account=(ANN.username, ANN.password))
        yield registry


@pytest.fixture
def registry(_running: Registry, tokens: TokenServer) -> Registry:
    """The registry, without earlier requests in its log."""
    tokens.requests.clear()
    return _running


async def test_a_private_image_needs_one_token_for_its_repository(
    registry: Registry, tokens: TokenServer, app: Image
) -> None:
    name = image.parse(f"{registry.host}/team/app:1")
    async with service() as opened:
        found = await opened.client.resolve(name, [AMD64], Keyring([(registry.host, ANN)]))
        for blob in found.platforms[AMD64].blobs:
            url = f"http://{registry.host}/v2/team/app/blobs/{blob.digest}"
            source = FileSource(url, {"Authorization": ANN.authorization})
            async with opened.reader.open(source) as answer:
                assert app.read(blob.digest) == b"".join([chunk async for chunk in answer.chunks])
    assert app.digest == found.digest
    assert [TokenRequest("ann", PULL)] == tokens.requests


async def test_a_nodes_runtime_is_admitted_with_a_token_of_the_token_server(
    registry: Registry, tokens: TokenServer, app: Image
) -> None:
    """Without a valid token the client receives the registry's challenge. A token of its realm is accepted."""
    where = ImageRepository(registry.host, "team/app")
    async with service() as opened:
        refused = await opened.access.check(where, app.digest)
        assert not refused.allowed
        assert not (await opened.access.check(where, app.digest, "Bearer guess")).allowed
        [offered] = challenge.parse(refused.challenges)
        demand = challenge.token_request(offered, "team/app", plain_http=True)
        assert (tokens.realm, tokens.service, PULL) == tuple(demand)
        header = _token(demand.url, basic(ANN.username, ANN.password))
        assert (await opened.access.check(where, app.digest, header)).allowed
        assert app.digest == (await opened.client.manifest(where, app.digest, RegistryAccount.read(header))).digest
        assert not (await opened.access.check(where, app.digest)).allowed


def _token(url: str, authorization: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": authorization})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return f"Bearer {json.load(answer)['token']}"
