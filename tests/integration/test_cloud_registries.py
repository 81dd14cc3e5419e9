"""Registries of three clouds, read with the identity of the supernode's pod. The vendors' servers are emulated."""

import msgspec
import pytest

from pantala_protocol import image
from pantala_protocol.images import PullOrder, WantedImage
from pantala_protocol.statement import Statement
from pantala_supernode.images.manifests import ManifestService
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.registry import errors
from pantala_supernode.registry.credentials import ANONYMOUS, POD_IDENTITY, Keyring, RegistryAccount
from pantala_supernode.registry.mapping import grammar
from pantala_supernode.replicas.client import SourceRequest
from tests.support.cloud_lab import CloudLab
from tests.support.cloud_stage import AMD64, CLOUDS, HOUR, Cloud, read, refusal, resolve
from tests.support.cloud_stage import lab as lab
from tests.support.clouds import ACR, ECR, PKG, TokenServers
from tests.support.fake_registry import LAYER, FakeRegistry, sha256


@pytest.fixture(params=CLOUDS, ids=["aws", "google", "google without impersonation", "azure"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    made: Cloud = request.param
    return made


async def test_an_image_is_read_with_the_identity_of_the_pod(lab: CloudLab, cloud: Cloud) -> None:
    registry = await lab.registry(cloud.name)
    async with lab.service(cloud.environment(lab)) as opened:
        assert sha256(registry.manifests["1"][1]) == await resolve(opened, registry)
        assert LAYER == await read(opened, registry)
        assert cloud.steps == lab.world.exchanges, "one exchange serves the image and its blobs"


async def test_tokens_are_renewed_before_they_end(lab: CloudLab, cloud: Cloud) -> None:
    registry = await lab.registry(cloud.name)
    async with lab.service(cloud.environment(lab)) as opened:
        for number in range(1, 4):
            variables = cloud.environment(lab)  # the kubelet renews the file with the pod's token
            assert variables
            await resolve(opened, registry)
            assert cloud.steps * number == lab.world.exchanges
            lab.world.clock.now += cloud.life * 0.85
            await resolve(opened, registry)
            assert LAYER == await read(opened, registry)
            assert cloud.steps * number == lab.world.exchanges
            lab.world.clock.now += cloud.life * 0.1
    assert lab.world.clock.now > 1000 + 2.8 * cloud.life


async def test_a_prefetch_goes_on_for_days_after_a_token_of_twelve_hours(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    async with lab.service(lab.irsa()) as opened:
        for _ in range(72):
            lab.irsa()
            await resolve(opened, registry)
            lab.world.clock.now += HOUR
            registry.push("1", layer=str(lab.world.clock.now).encode())
    assert 6 < lab.world.exchanges.count("ecr") < 9


async def test_valid_credentials_outlast_a_token_server_that_is_away(lab: CloudLab, cloud: Cloud) -> None:
    registry = await lab.registry(cloud.name)
    async with lab.service(cloud.environment(lab)) as opened:
        await resolve(opened, registry)
        lab.world.faults[cloud.steps[0]] = refusal(503, "")
        lab.world.clock.now += cloud.life * 0.92
        asked = len(lab.tokens.asked)
        for _ in range(3):
            await resolve(opened, registry)
        assert asked + 1 == len(lab.tokens.asked), "the next try comes after a pause"
        lab.world.clock.now += cloud.life * 0.08
        with pytest.raises(errors.RegistryFailedError):
            await resolve(opened, registry)
        lab.world.faults.clear()
        cloud.environment(lab)
        await resolve(opened, registry)
        assert cloud.steps * 2 == lab.world.exchanges


async def test_a_public_image_needs_no_identity(lab: CloudLab, cloud: Cloud) -> None:
    registry = await lab.registry(cloud.name)
    registry.is_public = True
    async with lab.service(cloud.environment(lab)) as opened:
        await resolve(opened, registry)
        assert LAYER == await read(opened, registry, pod_identity=False)
    assert [] == lab.world.exchanges


async def test_a_pull_secret_is_used_instead(lab: CloudLab, cloud: Cloud) -> None:
    registry = await lab.registry(cloud.name)
    async with lab.service(cloud.environment(lab)) as opened:
        with pytest.raises(errors.RegistryUnauthorizedError):
            await resolve(opened, registry, Keyring([(registry.host, RegistryAccount("ann", "wrong"))]))
    assert [] == lab.world.exchanges


async def test_a_client_of_the_mirror_does_not_get_the_identity(lab: CloudLab, cloud: Cloud) -> None:
    registry = await lab.registry(cloud.name)
    digest = sha256(registry.manifests["1"][1])
    async with lab.service(cloud.environment(lab)) as opened:
        await resolve(opened, registry)
        repository = registry.repository
        assert not (await opened.access.check(repository, digest)).allowed
        with pytest.raises(errors.RegistryUnauthorizedError):
            await opened.client.manifest(repository, digest)
        with pytest.raises(errors.RegistryUnauthorizedError):
            await read(opened, registry, pod_identity=False)


async def test_a_refused_token_is_dropped(lab: CloudLab, cloud: Cloud) -> None:
    registry = await lab.registry(cloud.name)
    async with lab.service(cloud.environment(lab)) as opened:
        await resolve(opened, registry)
        lab.world.issued.clear()  # the vendor revokes all
        cloud.environment(lab)
        lab.world.clock.now += 400  # the registry's own tokens end too
        with pytest.raises(errors.RegistryUnauthorizedError):
            await resolve(opened, registry)
        lab.world.clock.now += 6
        await resolve(opened, registry)


async def test_the_order_of_a_node_is_carried_out_with_the_identity(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    digest = sha256(registry.manifests["1"][1])
    name = f"{registry.host}/team/app:1@{digest}"
    images = StatedImages()
    images.take(Statement(1, images=(WantedImage("ns/web", name, orders={"n1": PullOrder("run", 1, timeout=60)}),)))
    async with lab.service(lab.irsa()) as opened:
        accounts = OrderAccounts(opened.choice)
        manifests = ManifestService(opened.client, opened.access, images, accounts, clock=lab.world.clock)
        given = await manifests.ordered("n1", "ns/web", registry.repository, digest)
        assert digest == given.digest
        wanted, reference = images.ordered("n1", "ns/web", str(registry.repository))
        assert (POD_IDENTITY, ANONYMOUS) == accounts.of(wanted, reference), (
            "its blobs come by the accepted account first"
        )
        assert not (await manifests.shown(registry.repository, digest, "")).digest


async def test_a_replica_reads_a_blob_with_its_own_identity() -> None:
    asked = SourceRequest("https://gcr.io/v2/app/blobs/x", pod_identity=True)
    assert asked == msgspec.json.decode(msgspec.json.encode(asked), type=SourceRequest)


# -- no token leaves for another host


async def test_a_token_server_on_another_host_gets_nothing(lab: CloudLab) -> None:
    for name, environment in ((PKG, lab.google()), (ACR, lab.azure())):
        registry = await lab.registry(name)
        async with TokenServers(lab.world, lab.tls) as other:
            registry.challenge = f'Bearer realm="https://sts.googleapis.com:{other.host.rpartition(":")[2]}/v1/token"'
            async with lab.service(lab.google() if name == PKG else environment | lab.azure()) as opened:
                with pytest.raises(errors.InvalidAnswerError, match="another host"):
                    await opened.client.manifest(registry.repository, "1", POD_IDENTITY)
            assert [] == other.asked


async def test_an_endpoint_of_another_vendor_gets_nothing(lab: CloudLab) -> None:
    registry = await lab.registry(ACR)
    async with FakeRegistry(lab.tls) as other:
        other.accounts = {"x": "y"}
        mapping = f"{registry.host}=https://mirror.googleapis.com:{other.host.rpartition(':')[2]},{registry.host}={registry.url}"
        async with lab.service(lab.azure(), grammar.listed(mapping, "", only=False)) as opened:
            with pytest.raises(errors.RegistryUnauthorizedError):
                await resolve(opened, registry)
        assert {""} == {asked.authorization for asked in other.asked}


async def test_a_pull_through_cache_is_read_with_the_identity(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    mapping = grammar.listed(f"docker.io={registry.url}/v2/docker-hub", "", only=False)
    async with lab.service(lab.irsa(), mapping) as opened:
        await opened.client.resolve(image.parse("nginx:1"), AMD64, Keyring())
    assert any(asked.path.startswith("/v2/docker-hub/library/nginx/") for asked in registry.asked)
