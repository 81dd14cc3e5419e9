"""A real registry without accounts, with accounts, with a token server, and with TLS."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from pantala_protocol import image
from pantala_protocol.image import ImageRepository
from pantala_supernode.origin.body import Layout
from pantala_supernode.registry import challenge, errors
from pantala_supernode.registry.client import ResolvedImage
from pantala_supernode.registry.credentials import Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoints, RegistrySettings
from pantala_supernode.registry.platform import Platform
from pantala_supernode.registry.service import RegistryService
from pantala_supernode.tasks.copy import FileSource
from testbed import registry as testbed_registry
from testbed.image import Image, Layer, build, push
from testbed.registry import Registry
from testbed.tokens import TokenRequest, TokenServer
from tests.support.fake_registry import Clock, service

pytestmark = pytest.mark.skipif(
    not testbed_registry.installed(), reason="docker-registry is not installed: apt-get install docker-registry"
)
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
ANN = RegistryAccount("ann", "ann's secret")
PULL = ("repository:team/app:pull",)
LAYERS = [Layer(3_000_000, seed=1), Layer(50_000, seed=2, compressed=True)]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("image"), LAYERS, platforms=["linux/amd64", "linux/arm64"])


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory, app: Image) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("public")) as registry:
        push(app, registry.host, "team/app", "1")
        yield registry


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, app: Image) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("private"), accounts={ANN.username: ANN.password}) as registry:
        push(app, registry.host, "team/app", "1", account=(ANN.username, ANN.password))
        yield registry


async def resolve(
    opened: RegistryService, registry: Registry, target: str = "team/app:1", keys: Keyring | None = None
) -> ResolvedImage:
    return await opened.client.resolve(image.parse(f"{registry.host}/{target}"), [AMD64, ARM64], keys or Keyring())


def blob(registry: Registry, digest: str, *, scheme: str = "http") -> FileSource:
    headers = {"Authorization": ANN.authorization} if scheme == "http" else {}
    return FileSource(f"{scheme}://{registry.host}/v2/team/app/blobs/{digest}", headers, digest)


async def read(opened: RegistryService, source: FileSource) -> bytes:
    async with opened.reader.open(source) as answer:
        return b"".join([block async for block in answer.body.blocks(Layout(65536))])


async def test_an_image_is_resolved_as_it_was_pushed(public: Registry, app: Image) -> None:
    async with service() as opened:
        found = await resolve(opened, public)
        pinned = await resolve(opened, public, f"team/app@{app.digest}")
    assert found == pinned
    assert (app.digest, {AMD64, ARM64}) == (found.digest, found.platforms.keys())
    blobs = {blob.digest: blob.size for manifest in found.platforms.values() for blob in manifest.blobs}
    assert app.blobs == blobs


@pytest.mark.parametrize("index", [True, False])
async def test_dockers_own_types_are_read(tmp_path: Path, public: Registry, *, index: bool) -> None:
    made = build(tmp_path, [Layer(10)], format="docker", index=index)
    push(made, public.host, "team/docker", "1")
    async with service() as opened:
        found = await resolve(opened, public, "team/docker:1")
    assert (made.digest, made.blobs) == (found.digest, {b.digest: b.size for b in found.platforms[AMD64].blobs})


async def test_a_private_image_needs_the_right_password(private: Registry, app: Image) -> None:
    wrong = RegistryAccount("ann", "guess")
    async with service() as opened:
        for keys in (Keyring(), Keyring([(private.host, wrong)]), Keyring([("other.example", ANN)])):
            with pytest.raises(errors.RegistryUnauthorizedError, match="team/app:1"):
                await resolve(opened, private, keys=keys)
        found = await resolve(opened, private, keys=Keyring([(private.host, ANN), (f"{private.host}/team", wrong)]))
        assert app.digest == found.digest
        for each in found.platforms[AMD64].blobs:
            assert app.path(each.digest).read_bytes() == await read(opened, blob(private, each.digest))


async def test_an_outage_is_named_and_ends(tmp_path: Path) -> None:
    clock = Clock()
    made = build(tmp_path / "image", [Layer(10)])
    with Registry(tmp_path / "registry") as registry:
        push(made, registry.host, "team/app", "1")
        async with service(clock=clock) as opened:
            first = await resolve(opened, registry)
            known = await opened.client.manifest(ImageRepository(registry.host, "team/app"), "1")
            registry.stop()
            assert known == await opened.client.manifest(ImageRepository(registry.host, "team/app"), "1")
            clock.now += 31
            with pytest.raises(errors.RegistryUnreachableError, match=r"refused|cut"):
                await resolve(opened, registry)
            registry.start()
            assert first == await resolve(opened, registry)


async def test_a_private_authority_is_trusted_if_configured(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca, certificate, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(ca))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    made = build(tmp_path / "image", [Layer(1000)])
    with Registry(tmp_path / "registry", certificate=certificate, key=key) as registry:
        push(made, registry.host, "team/app", "1", tls=ssl.create_default_context(cafile=ca))
        async with service(RegistryEndpoints({registry.host: RegistrySettings(ca=ca)})) as opened:
            found = await resolve(opened, registry)
            digest = found.platforms[AMD64].layers[0].digest
            assert made.path(digest).read_bytes() == await read(opened, blob(registry, digest, scheme="https"))
        async with service(RegistryEndpoints({registry.host: RegistrySettings()})) as opened:
            with pytest.raises(errors.RegistryCertificateError, match="authority"):
                await resolve(opened, registry)
        with pytest.raises(errors.RegistryCertificateError, match="missing"):
            async with service(RegistryEndpoints({registry.host: RegistrySettings(ca=tmp_path / "missing")})):
                pass


# A token server


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    with TokenServer(tmp_path / "tokens", {ANN.username: ANN.password}) as server:
        yield server


@pytest.fixture
def guarded(tmp_path: Path, tokens: TokenServer, app: Image) -> Iterator[Registry]:
    """A registry that accepts only its token server's tokens."""
    with Registry(tmp_path / "registry", tokens=tokens) as registry:
        push(app, registry.host, "team/app", "1", account=(ANN.username, ANN.password))
        tokens.requests.clear()
        yield registry


async def test_a_private_image_needs_its_repositorys_token(guarded: Registry, tokens: TokenServer, app: Image) -> None:
    async with service() as opened:
        found = await resolve(opened, guarded, keys=Keyring([(guarded.host, ANN)]))
        for each in found.platforms[AMD64].blobs:
            assert app.read(each.digest) == await read(opened, blob(guarded, each.digest))
    assert app.digest == found.digest
    assert [TokenRequest("ann", PULL)] == tokens.requests


async def test_a_token_servers_token_admits_a_runtime(guarded: Registry, tokens: TokenServer, app: Image) -> None:
    """Without a valid token the client receives the registry's challenge. A token of its realm is accepted."""
    where = ImageRepository(guarded.host, "team/app")
    async with service() as opened:
        refused = await opened.access.check(where, app.digest)
        assert not refused.allowed
        assert not (await opened.access.check(where, app.digest, "Bearer guess")).allowed
        [offered] = challenge.parse(refused.challenges)
        demand = challenge.token_request(offered, "team/app", plain_http=True)
        assert (tokens.realm, tokens.service, PULL) == tuple(demand)
        headers = {"Authorization": ANN.authorization}
        async with aiohttp.request("GET", demand.url, headers=headers) as answer:
            header = f"Bearer {(await answer.json())['token']}"
        assert (await opened.access.check(where, app.digest, header)).allowed
        assert app.digest == (await opened.client.manifest(where, app.digest, RegistryAccount.read(header))).digest
        assert not (await opened.access.check(where, app.digest)).allowed
