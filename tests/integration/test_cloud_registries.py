"""Registries of three clouds, read with the identity of the supernode's pod. The vendors' servers are emulated."""

import json
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from pantala_protocol import image
from pantala_protocol.image import ImageReference
from pantala_protocol.images import PullOrder, WantedImage
from pantala_protocol.statement import Statement
from pantala_supernode.images.manifests import ManifestService
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.origin.body import Layout
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.registry import errors
from pantala_supernode.registry.clouds.aws_keys import PodIdentityKeys
from pantala_supernode.registry.clouds.environment import agent_client
from pantala_supernode.registry.clouds.signature import AWSKeys
from pantala_supernode.registry.credentials import ANONYMOUS, POD_IDENTITY, Keyring, RegistryAccount
from pantala_supernode.registry.mapping import grammar
from pantala_supernode.registry.platform import Platform
from pantala_supernode.registry.service import RegistryService
from pantala_supernode.registry.transport import RegistryTransport
from pantala_supernode.replicas.client import SourceRequest
from pantala_supernode.tasks.copy import FileSource
from tests.support.clouds import ACR, ECR, PKG, ROLE, CloudLab, TokenServers, cloud_lab
from tests.support.fake_registry import LAYER, FakeRegistry, sha256
from tests.support.outbound import local_egress

AMD64 = [Platform("linux", "amd64")]
HOUR = 3600
Environment = Callable[[CloudLab], dict[str, str]]
CLOUDS: list[tuple[str, Environment, list[str], float]] = [
    (ECR, CloudLab.irsa, ["sts", "ecr"], 12 * HOUR),
    (PKG, CloudLab.google, ["google", "iam"], HOUR),
    (PKG, lambda lab: lab.google(impersonates=False), ["google"], HOUR),
    (ACR, CloudLab.azure, ["entra", "acr"], 3 * HOUR),
]
"""Registry, environment of the pod, the steps of an exchange, and the life of its result."""


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


@pytest.mark.parametrize(("name", "environment", "steps", "life"), CLOUDS)
async def test_an_image_is_read_with_the_identity_of_the_pod(
    lab: CloudLab, name: str, environment: Environment, steps: list[str], life: float
) -> None:
    registry = await lab.registry(name)
    async with lab.service(environment(lab)) as opened:
        assert sha256(registry.manifests["1"][1]) == await resolve(opened, registry)
        assert LAYER == await read(opened, registry)
        assert steps == lab.world.exchanges, "one exchange serves the image and its blobs"


@pytest.mark.parametrize(("name", "environment", "steps", "life"), CLOUDS)
async def test_tokens_are_renewed_before_they_end(
    lab: CloudLab, name: str, environment: Environment, steps: list[str], life: float
) -> None:
    registry = await lab.registry(name)
    async with lab.service(environment(lab)) as opened:
        for number in range(1, 4):
            variables = environment(lab)  # the kubelet renews the file with the pod's token
            assert variables
            await resolve(opened, registry)
            assert steps * number == lab.world.exchanges
            lab.world.clock.now += life * 0.85
            await resolve(opened, registry)
            assert LAYER == await read(opened, registry)
            assert steps * number == lab.world.exchanges
            lab.world.clock.now += life * 0.1
    assert lab.world.clock.now > 1000 + 2.8 * life


async def test_a_prefetch_goes_on_for_days_after_a_token_of_twelve_hours(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    async with lab.service(lab.irsa()) as opened:
        for _ in range(72):
            lab.irsa()
            await resolve(opened, registry)
            lab.world.clock.now += HOUR
            registry.push("1", layer=str(lab.world.clock.now).encode())
    assert 6 < lab.world.exchanges.count("ecr") < 9


@pytest.mark.parametrize(("name", "environment", "steps", "life"), CLOUDS)
async def test_valid_credentials_outlast_a_token_server_that_is_away(
    lab: CloudLab, name: str, environment: Environment, steps: list[str], life: float
) -> None:
    registry = await lab.registry(name)
    async with lab.service(environment(lab)) as opened:
        await resolve(opened, registry)
        lab.world.faults[steps[0]] = refusal(503, "")
        lab.world.clock.now += life * 0.92
        asked = len(lab.tokens.asked)
        for _ in range(3):
            await resolve(opened, registry)
        assert asked + 1 == len(lab.tokens.asked), "the next try comes after a pause"
        lab.world.clock.now += life * 0.08
        with pytest.raises(errors.RegistryFailedError):
            await resolve(opened, registry)
        lab.world.faults.clear()
        environment(lab)
        await resolve(opened, registry)
        assert steps * 2 == lab.world.exchanges


@pytest.mark.parametrize(("name", "environment", "steps", "life"), CLOUDS)
async def test_a_public_image_needs_no_identity(
    lab: CloudLab, name: str, environment: Environment, steps: list[str], life: float
) -> None:
    registry = await lab.registry(name)
    registry.is_public = True
    async with lab.service(environment(lab)) as opened:
        await resolve(opened, registry)
        assert LAYER == await read(opened, registry, pod_identity=False)
    assert [] == lab.world.exchanges


@pytest.mark.parametrize(("name", "environment", "steps", "life"), CLOUDS)
async def test_a_pull_secret_is_used_instead(
    lab: CloudLab, name: str, environment: Environment, steps: list[str], life: float
) -> None:
    registry = await lab.registry(name)
    async with lab.service(environment(lab)) as opened:
        with pytest.raises(errors.RegistryUnauthorizedError):
            await resolve(opened, registry, Keyring([(registry.host, RegistryAccount("ann", "wrong"))]))
    assert [] == lab.world.exchanges


@pytest.mark.parametrize(("name", "environment", "steps", "life"), CLOUDS)
async def test_a_client_of_the_mirror_does_not_get_the_identity(
    lab: CloudLab, name: str, environment: Environment, steps: list[str], life: float
) -> None:
    registry = await lab.registry(name)
    digest = sha256(registry.manifests["1"][1])
    async with lab.service(environment(lab)) as opened:
        await resolve(opened, registry)
        repository = registry.repository
        assert not (await opened.access.check(repository, digest)).allowed
        with pytest.raises(errors.RegistryUnauthorizedError):
            await opened.client.manifest(repository, digest)
        with pytest.raises(errors.RegistryUnauthorizedError):
            await read(opened, registry, pod_identity=False)


@pytest.mark.parametrize(("name", "environment", "steps", "life"), CLOUDS)
async def test_a_refused_token_is_dropped(
    lab: CloudLab, name: str, environment: Environment, steps: list[str], life: float
) -> None:
    registry = await lab.registry(name)
    async with lab.service(environment(lab)) as opened:
        await resolve(opened, registry)
        lab.world.issued.clear()  # the vendor revokes all
        environment(lab)
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


# -- failures


REFUSED, INVALID = errors.CloudIdentityError, errors.InvalidAnswerError
FAULTS: list[tuple[int, str, web.Response, type[errors.RegistryError], str]] = [
    (0, "sts", refusal(403, "<E><Code>AccessDenied</Code></E>"), REFUSED, rf"{ROLE}.*AccessDenied.*trust"),
    (0, "sts", refusal(400, "<E><Code>ExpiredToken</Code></E>"), REFUSED, "ExpiredToken"),
    (0, "sts", refusal(200, "<html>"), INVALID, "AWS STS"),
    (0, "sts", refusal(200, "<a><Credentials><AccessKeyId>x</AccessKeyId></Credentials></a>"), INVALID, "STS"),
    (0, "sts", refusal(503, ""), errors.RegistryFailedError, "AWS STS"),
    (0, "ecr", refusal(400, '{"__type":"AccessDeniedException"}'), REFUSED, "ecr:GetAuthorizationToken"),
    (0, "ecr", refusal(200, "{}"), INVALID, "Amazon ECR"),
    (0, "ecr", refusal(200, '{"authorizationData":[]}'), INVALID, "Amazon ECR"),
    (1, "google", refusal(400, '{"error":"invalid_grant"}'), REFUSED, "invalid_grant.*pool"),
    (1, "google", refusal(200, '{"access_token":null}'), INVALID, "token service"),
    (1, "iam", refusal(403, '{"error":{"status":"PERMISSION_DENIED"}}'), REFUSED, "workloadIdentityUser"),
    (1, "iam", refusal(200, '{"accessToken":"x","expireTime":"soon"}'), INVALID, "IAM"),
    (3, "entra", refusal(401, '{"error":"invalid_client"}'), REFUSED, "invalid_client.*federated credential"),
    (3, "entra", refusal(429, ""), errors.RateLimitedError, "Entra"),
    (3, "entra", refusal(200, "[]"), INVALID, "Entra"),
]


@pytest.mark.parametrize(("cloud", "step", "fault", "expected", "text"), FAULTS)
async def test_a_failed_exchange_is_named_with_the_step_and_the_remedy(
    lab: CloudLab, cloud: int, step: str, fault: web.Response, expected: type[errors.RegistryError], text: str
) -> None:
    name, environment, _, _ = CLOUDS[cloud]
    registry = await lab.registry(name)
    lab.world.faults[step] = fault
    async with lab.service(environment(lab)) as opened:
        with pytest.raises(expected, match=text) as caught:
            await resolve(opened, registry)
        assert expected is type(caught.value)
    token = (lab.world.folder / "token").read_text().strip()
    shown = "".join(traceback.format_exception(caught.value))
    assert name in shown
    assert not [secret for secret in (token, *lab.world.issued) if secret in shown]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"subject": "system:serviceaccount:default:other"}, "refused the supernode's identity"),
        ({"seconds": -1.0}, "refused the supernode's identity"),
        ({"audience": "another"}, "refused the supernode's identity"),
    ],
)
@pytest.mark.parametrize("cloud", [0, 1, 3])
async def test_a_token_of_another_account_or_audience_is_refused(
    lab: CloudLab, cloud: int, change: Mapping[str, object], text: str
) -> None:
    name, environment, _, _ = CLOUDS[cloud]
    registry = await lab.registry(name)
    variables = environment(lab)
    audiences = {0: "sts.amazonaws.com", 1: "pool-audience", 3: "api://AzureADTokenExchange"}
    lab.world.write_token(**{"audience": audiences[cloud], **change})  # type: ignore[arg-type]
    async with lab.service(variables) as opened:
        with pytest.raises(errors.CloudIdentityError, match=text):
            await resolve(opened, registry)


@pytest.mark.parametrize(
    "content", [None, b"", b"\n", b"two\nlines", b"\xff\xfe", b"x" * 40_000, "ü".encode(), b"a\tb"]
)
@pytest.mark.parametrize("cloud", [0, 1, 3])
async def test_an_unusable_token_file_is_named(lab: CloudLab, cloud: int, content: bytes | None) -> None:
    name, environment, _, _ = CLOUDS[cloud]
    registry, variables, file = await lab.registry(name), environment(lab), lab.world.folder / "token"
    file.unlink() if content is None else file.write_bytes(content)
    async with lab.service(variables) as opened:
        with pytest.raises(errors.CloudIdentityError, match=str(file)):
            await resolve(opened, registry)
    assert [] == lab.tokens.asked


@pytest.mark.parametrize(
    "configuration",
    [
        None,
        "<html>",
        "{}",
        '{"type": "service_account", "private_key": "secret-key"}',
        '{"type": "external_account"}',
        '{"type": "external_account", "token_url": "https://x", "credential_source": {"url": "http://169.254.169.254"}}',
        '{"type": "external_account", "credential_source": {"file": "/x"}}',
        '{"type": "external_account", "token_url": 5, "credential_source": {"file": "/x"}}',
    ],
)
async def test_an_unusable_configuration_of_google_is_named(lab: CloudLab, configuration: str | None) -> None:
    registry, variables = await lab.registry(PKG), lab.google()
    file = Path(variables["GOOGLE_APPLICATION_CREDENTIALS"])
    file.unlink() if configuration is None else file.write_text(configuration)
    async with lab.service(variables) as opened:
        with pytest.raises(errors.CloudIdentityError, match=str(file)) as caught:
            await resolve(opened, registry)
    assert "secret-key" not in str(caught.value)


async def test_a_token_inside_a_json_file_is_found(lab: CloudLab) -> None:
    registry, variables = await lab.registry(PKG), lab.google()
    file = Path(variables["GOOGLE_APPLICATION_CREDENTIALS"])
    configuration = json.loads(file.read_text())
    token = Path(configuration["credential_source"]["file"])
    configuration["credential_source"]["format"] = {"type": "json", "subject_token_field_name": "access"}
    file.write_text(json.dumps(configuration))
    token.write_text(json.dumps({"access": token.read_text().strip()}))
    async with lab.service(variables) as opened:
        await resolve(opened, registry)


async def test_without_an_identity_a_private_image_needs_a_secret(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    async with lab.service({"AWS_REGION": "eu-west-1", "AWS_ROLE_ARN": ROLE}) as opened:
        with pytest.raises(errors.RegistryUnauthorizedError, match="requires credentials"):
            await resolve(opened, registry)


async def test_a_wrong_clock_is_named(lab: CloudLab, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, real = await lab.registry(ECR), lab.world.wall
    async with lab.service(lab.irsa()) as opened:
        monkeypatch.setattr(lab.world, "wall", lambda: real() - 1200)
        with pytest.raises(errors.CloudIdentityError, match=r"InvalidSignatureException.*clock"):
            await resolve(opened, registry)


# -- EKS Pod Identity


def agents_variables(lab: CloudLab, url: str) -> dict[str, str]:
    token = lab.world.write_token("pods.eks.amazonaws.com")
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL_ECR": f"https://api.ecr.eu-west-1.amazonaws.com:{lab.port()}",
    }


async def test_the_agent_on_the_node_gives_keys(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    async with (
        TokenServers(lab.world, None) as agent,
        lab.service(agents_variables(lab, f"{agent.url}/v1/credentials")) as opened,
    ):
        await resolve(opened, registry)
        assert LAYER == await read(opened, registry)
    assert ["agent", "ecr"] == lab.world.exchanges


async def test_the_agents_address_is_reached_by_its_own_client_only(lab: CloudLab) -> None:
    """Loopback stands for the link-local address."""
    async with (
        TokenServers(lab.world, None) as agent,
        OutboundClient(egress=local_egress()) as outbound,
        AsyncExitStack() as stack,
    ):
        url, asked = f"{agent.url}/v1/credentials", list[str]()

        def transport(address: str) -> RegistryTransport:
            asked.append(address)
            client = agent_client(address)
            stack.push_async_exit(client)
            return RegistryTransport(client)

        agents = frozenset({"127.0.0.1"})
        variables = agents_variables(lab, url)
        own = PodIdentityKeys(RegistryTransport(outbound), variables, transport, agents)
        assert isinstance(await own.keys(ECR, "eu-west-1"), AWSKeys)
        assert ["127.0.0.1"] == asked
        for other in (f"{agent.url}/latest/meta-data", f"{agent.url}/v1/credentials/../x", f"{agent.url}/"):
            PodIdentityKeys(RegistryTransport(outbound), agents_variables(lab, other), transport, agents)
        assert ["127.0.0.1"] == asked, "another path is not the agent's"
        elsewhere = PodIdentityKeys(transport("169.254.170.23"), variables, transport, frozenset())
        with pytest.raises(errors.RegistryDeniedError):
            await elsewhere.keys(ECR, "eu-west-1")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/x",
        "http://169.254.170.2/v2/credentials/x",
        "http://169.254.170.23/v1/other",
        "http://169.254.170.23:80@evil.example/v1/credentials",
        "http://agent.example/v1/credentials",
        "http://10.0.0.1/v1/credentials",
        "ftp://169.254.170.23/v1/credentials",
        "/v1/credentials",
    ],
)
async def test_another_address_is_never_asked_for_keys(lab: CloudLab, url: str) -> None:
    registry = await lab.registry(ECR)
    async with lab.service(agents_variables(lab, url)) as opened:
        with pytest.raises(errors.CloudIdentityError, match="https:"):
            await resolve(opened, registry)


async def test_the_agent_refuses_another_service_account(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    async with TokenServers(lab.world, None) as agent:
        variables = agents_variables(lab, f"{agent.url}/v1/credentials")
        lab.world.write_token("pods.eks.amazonaws.com", subject="system:serviceaccount:a:b")
        async with lab.service(variables) as opened:
            with pytest.raises(errors.CloudIdentityError, match="Pod Identity association"):
                await resolve(opened, registry)
