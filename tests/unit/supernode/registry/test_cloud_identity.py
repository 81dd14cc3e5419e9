"""Which hosts belong to a vendor, and how requests to AWS are signed."""

from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from pantala_protocol import image
from pantala_supernode.errors import SourceDeniedError
from pantala_supernode.outbound.egress import NEVER, EgressPolicy
from pantala_supernode.registry.clouds import aws, aws_keys
from pantala_supernode.registry.clouds.accounts import AccountChoice, CloudAccounts, CloudIdentity
from pantala_supernode.registry.clouds.aws import AWSIdentity
from pantala_supernode.registry.clouds.azure import AzureIdentity
from pantala_supernode.registry.clouds.environment import EVERYWHERE
from pantala_supernode.registry.clouds.exchange import check_url
from pantala_supernode.registry.clouds.google import GoogleIdentity
from pantala_supernode.registry.clouds.signature import AWSKeys, AWSScope, signed
from pantala_supernode.registry.credentials import ANONYMOUS, POD_IDENTITY, Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoint
from pantala_supernode.registry.errors import CloudIdentityError
from pantala_supernode.registry.mapping import grammar

NOTHING: Any = None
AZURE = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/f"}
IDENTITIES: dict[str, CloudIdentity] = {
    "aws": AWSIdentity(NOTHING, {}, NOTHING, NOTHING),
    "google": GoogleIdentity(NOTHING, Path("/f"), NOTHING),
    "azure": AzureIdentity(NOTHING, AZURE, NOTHING),
}
ACCOUNTS = CloudAccounts(IDENTITIES.values(), lambda: 0.0)


@pytest.mark.parametrize(
    ("host", "vendor", "api"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "aws", "https://api.ecr.eu-west-1.amazonaws.com/"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com:443", "aws", "https://api.ecr.eu-west-1.amazonaws.com/"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "aws", "https://api.ecr.cn-north-1.amazonaws.com.cn/"),
        (
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            "aws",
            "https://ecr-fips.us-gov-west-1.amazonaws.com/",
        ),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "aws", "https://ecr.eu-west-1.api.aws/"),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "aws", "https://api.ecr.eusc-de-east-1.amazonaws.eu/"),
        ("gcr.io", "google", ""),
        ("eu.gcr.io", "google", ""),
        ("europe-west4-docker.pkg.dev", "google", ""),
        ("contoso.azurecr.io", "azure", ""),
        ("contoso-abc123.azurecr.io", "azure", ""),
        ("contoso.westeurope.geo.azurecr.io", "azure", ""),
        ("contoso.azurecr.cn", "azure", ""),
    ],
)
def test_a_vendors_host_gets_the_vendors_credentials(host: str, vendor: str, api: str) -> None:
    assert [vendor] == [name for name, identity in IDENTITIES.items() if identity.serves(host)]
    assert ACCOUNTS.serves(RegistryEndpoint(f"https://{host}/v2"))
    found = aws.parse(host)
    assert api == (found.api if found is not None else "")


@pytest.mark.parametrize(
    "host",
    [
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", "123456789012.dkr.ecr.eu-west-1.evil.com",
        "evil.example/123456789012.dkr.ecr.eu-west-1.amazonaws.com", "dkr.ecr.eu-west-1.amazonaws.com",
        "12345.dkr.ecr.eu-west-1.amazonaws.com", "123456789012.dkr.ecr.a.b.amazonaws.com",
        "123456789012xdkr.ecr.eu-west-1.amazonaws.com", "public.ecr.aws", "s3.eu-west-1.amazonaws.com",
        "gcr.io.evil.example", "evilgcr.io", "a.b.gcr.io", "pkg.dev", "pkg.dev.evil.example", "azurecr.io",
        "contosoazurecr.io", "contoso.azurecr.io.evil.example", "contoso.azurecr.io@evil.example",
        "contoso.azurecr.io\n", "docker.io", "169.254.170.23", "",
    ],
)  # fmt: skip
def test_no_other_host_gets_credentials_of_a_cloud(host: str) -> None:
    assert [] == [name for name, identity in IDENTITIES.items() if identity.serves(host)]


async def test_a_registry_without_tls_gets_none() -> None:
    assert ANONYMOUS == await ACCOUNTS.account(RegistryEndpoint("http://contoso.azurecr.io/v2"))


@pytest.mark.parametrize(
    ("name", "secret", "mapping", "expected"),
    [
        ("contoso.azurecr.io/app:1", "", "", (ANONYMOUS, POD_IDENTITY)),
        ("gcr.io/p/app:1", "", "", (ANONYMOUS, POD_IDENTITY)),
        ("contoso.azurecr.io/app:1", "contoso.azurecr.io", "", (RegistryAccount("u", "p"),)),
        ("contoso.azurecr.io/app:1", "other.azurecr.io", "", (ANONYMOUS, POD_IDENTITY)),
        ("registry.example/app:1", "", "", (ANONYMOUS,)),
        ("nginx", "", "docker.io=https://contoso.azurecr.io/v2/hub", (ANONYMOUS, POD_IDENTITY)),
        ("gcr.io/p/app:1", "", "gcr.io=https://harbor.corp/v2/gcr", (ANONYMOUS,)),
        ("gcr.io/p/app:1", "", "gcr.io=http://gcr.io", (ANONYMOUS,)),
        ("gcr.io/p/app:1", "", "gcr.io=https://harbor.corp,gcr.io=https://gcr.io", (ANONYMOUS, POD_IDENTITY)),
    ],
)
def test_a_pull_secret_comes_before_the_identity(
    name: str, secret: str, mapping: str, expected: tuple[RegistryAccount, ...]
) -> None:
    keys = Keyring([(secret, RegistryAccount("u", "p"))] if secret else [])
    choice = AccountChoice(grammar.listed(mapping, "", only=False), ACCOUNTS)
    assert expected == choice.of(image.parse(name), keys)


def test_a_registry_that_is_not_allowed_gets_no_identity() -> None:
    choice = AccountChoice(grammar.listed("a.b", "", only=True), ACCOUNTS)
    assert (ANONYMOUS,) == choice.of(image.parse("gcr.io/app:1"), Keyring())


# -- signatures: the vectors that AWS publishes (aws-sig-v4-test-suite)

KEYS = AWSKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7"
    "mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d"
    "+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
VECTORS = [
    ("GET", "/", {}, b"", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("GET", "/?Param1=value1", {}, b"", "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
    ("GET", "/?Param2=value2&Param1=value1", {}, b"", "",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("GET", "/?Param1=value2&Param1=Value1", {}, b"", "",
     "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"),
    ("POST", "/", {}, b"", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("POST", "/", {"My-Header1": "value1"}, b"", "",
     "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
    ("POST", "/", {"My-Header1": "VALUE1"}, b"", "",
     "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
    ("POST", "/", FORM, b"Param1=value1", "", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ("POST", "/", {}, b"", SESSION, "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "headers", "body", "session", "expected"), VECTORS)
def test_a_request_has_the_signature_of_the_published_vector(
    method: str, path: str, headers: dict[str, str], body: bytes, session: str, expected: str
) -> None:
    given = signed(
        method,
        f"https://example.amazonaws.com{path}",
        headers,
        body,
        keys=KEYS._replace(session_token=session),
        scope=AWSScope("us-east-1", "service"),
        now=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )
    assert expected == given["Authorization"].rpartition("=")[2]
    assert given["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_")


def test_keys_are_not_shown() -> None:
    assert "wJalr" not in repr(KEYS)


# -- where a token may go


@pytest.mark.parametrize(
    ("environment", "region", "expected"),
    [
        ({}, "eu-west-1", "https://sts.eu-west-1.amazonaws.com/"),
        ({"AWS_REGION": "us-east-2"}, "eu-west-1", "https://sts.us-east-2.amazonaws.com/"),
        ({"AWS_DEFAULT_REGION": "us-east-2"}, "eu-west-1", "https://sts.us-east-2.amazonaws.com/"),
        ({"AWS_REGION": "cn-north-1"}, "eu-west-1", "https://sts.cn-north-1.amazonaws.com.cn/"),
        ({}, "eusc-de-east-1", "https://sts.eusc-de-east-1.amazonaws.eu/"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "us-east-1", "https://sts-fips.us-east-1.amazonaws.com/"),
        ({"AWS_ENDPOINT_URL_STS": "https://vpce.example"}, "us-east-1", "https://vpce.example/"),
        ({"AWS_ENDPOINT_URL": "https://all.example/"}, "us-east-1", "https://all.example/"),
    ],
)
def test_the_token_service_is_that_of_the_pods_region(environment: dict[str, str], region: str, expected: str) -> None:
    assert expected == aws_keys.sts_url(environment, region)


@pytest.mark.parametrize(
    "url", ["https://sts.example/", "http://127.0.0.1:80/x", "http://[::1]/x", "http://localhost/"]
)
def test_a_token_goes_to_an_https_url_or_to_this_pod(url: str) -> None:
    check_url(url, "x")


@pytest.mark.parametrize(
    "url",
    [
        "http://sts.example/", "http://169.254.169.254/", "http://169.254.170.23/v1/credentials", "http://10.0.0.1/",
        "ftp://127.0.0.1/", "", "https:///x", "http://127.0.0.1.evil.example/", "http://localhost.evil.example/",
    ],
)  # fmt: skip
def test_a_token_does_not_cross_the_network_in_clear_text(url: str) -> None:
    with pytest.raises(CloudIdentityError, match="https:"):
        check_url(url, "x")


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.170.2", "169.254.170.24", "::ffff:169.254.170.23", "2002:a9fe:aa17::",
        "64:ff9b::a9fe:aa17", "fd00:ec2::254", "fe80::1", "10.0.0.1", "8.8.8.8", "127.0.0.1", "2001:db8::1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("agent", sorted(aws_keys.AGENTS))
def test_the_agents_client_reaches_one_address_only(address: str, agent: str) -> None:
    policy = EgressPolicy(EVERYWHERE, exceptions=[ip_address(agent)])
    policy.check(agent)
    with pytest.raises(SourceDeniedError):
        policy.check(address)


@pytest.mark.parametrize("agent", sorted(aws_keys.AGENTS))
def test_every_other_client_denies_the_agents_addresses(agent: str) -> None:
    assert any(ip_address(agent) in network for network in NEVER if network.version == ip_address(agent).version)
    with pytest.raises(SourceDeniedError):
        EgressPolicy().check(agent)
