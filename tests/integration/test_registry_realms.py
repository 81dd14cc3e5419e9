"""A registry's passwords go to its own host only, and to the hosts of token servers that are listed for it."""

from collections.abc import AsyncIterator

import pytest

from pantala_protocol import image
from pantala_protocol.image import ImageRepository
from pantala_supernode.registry import errors
from pantala_supernode.registry.credentials import Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.mapping import grammar, realms
from pantala_supernode.registry.platform import Platform
from pantala_supernode.tasks.copy import FileSource
from tests.support.fake_registry import LAYER, PASSWORD, FakeRegistry, TokenServer, service, sha256

AMD64 = Platform("linux", "amd64")
ANN = RegistryAccount("ann", PASSWORD)
IDENTITY = RegistryAccount(identity_token="an-identity-token")


class ElsewhereServer(TokenServer):
    """A token server that the registry names by another host name than its own."""

    @property
    def named(self) -> str:
        return self.url.replace("127.0.0.1", "localhost")


@pytest.fixture
async def tokens() -> AsyncIterator[ElsewhereServer]:
    async with ElsewhereServer() as server:
        server.accounts = {"ann": PASSWORD}
        server.identity_token = IDENTITY.identity_token
        yield server


@pytest.fixture
async def registry(tokens: ElsewhereServer) -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as made:
        made.tokens = tokens
        made.challenge = f'Bearer realm="{tokens.named}/token",service="fake"'
        made.push("1")
        yield made


@pytest.mark.parametrize("account", [ANN, IDENTITY])
async def test_m6_a_password_does_not_go_to_another_host_that_the_registry_names(
    registry: FakeRegistry, tokens: ElsewhereServer, account: RegistryAccount
) -> None:
    name, keys = image.parse(f"{registry.host}/team/app:1"), Keyring([(registry.host, account)])
    async with service() as opened:
        with pytest.raises(errors.RegistryDeniedError, match="realms"):
            await opened.client.resolve(name, [AMD64], keys)
        url = f"{registry.url}/v2/team/app/blobs/{sha256(LAYER)}"
        with pytest.raises(errors.RegistryError):
            async with opened.reader.open(FileSource(url, {"Authorization": account.authorization})):
                pass
    assert [] == tokens.asked


async def test_m6_an_anonymous_request_may_go_there(registry: FakeRegistry, tokens: ElsewhereServer) -> None:
    async with service() as opened:
        name = image.parse(f"{registry.host}/team/app:1")
        assert AMD64 in (await opened.client.resolve(name, [AMD64], Keyring())).platforms
    assert [""] == [asked.authorization for asked in tokens.asked]


async def test_m6_a_listed_host_gets_the_password(registry: FakeRegistry, tokens: ElsewhereServer) -> None:
    listed = grammar.listed("", "", f"{registry.host}=localhost", only=False)
    tokens.anonymous = False
    async with service(listed) as opened:
        name, keys = image.parse(f"{registry.host}/team/app:1"), Keyring([(registry.host, ANN)])
        assert AMD64 in (await opened.client.resolve(name, [AMD64], keys)).platforms
    assert [ANN.basic] == [asked.authorization for asked in tokens.asked]


@pytest.mark.parametrize(
    ("host", "realm", "expected"),
    [
        ("registry-1.docker.io", "https://auth.docker.io/token", True),
        ("registry-1.docker.io", "https://auth.docker.io:8443/token", True),
        ("registry.hub.docker.com", "https://auth.docker.io/token", True),
        ("hub.docker.com", "https://auth.docker.io/token", False),
        ("registry-1.docker.io.evil.com", "https://auth.docker.io/token", False),
        ("ghcr.io", "https://ghcr.io/token", True),
        ("gcr.io", "https://gcr.io/v2/token", True),
        ("europe-docker.pkg.dev", "https://europe-docker.pkg.dev/v2/token", True),
        ("quay.io", "https://quay.io/v2/auth", True),
        ("harbor.corp:8443", "https://harbor.corp/service/token", True),
        ("Harbor.Corp", "https://harbor.corp/service/token", True),
        ("[fd00::1]:5000", "https://[fd00::1]/token", True),
        ("my.azurecr.io", "https://my.azurecr.io/oauth2/token", True),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("registry.digitalocean.com", "https://api.digitalocean.com/v2/registry/auth", True),
        ("rg.fr-par.scw.cloud", "https://api.scaleway.com/registry-internal/v1/regions/fr-par/tokens", True),
        ("registry.cn-hangzhou.aliyuncs.com", "https://dockerauth.cn-hangzhou.aliyuncs.com/auth", True),
        ("registry-1.docker.io", "https://auth.docker.io.evil.com/token", False),
        ("ghcr.io", "https://auth.docker.io/token", False),
        ("evil.com", "https://auth.docker.io/token", False),
        ("registry-1.docker.io", "https://evil.com/auth.docker.io", False),
        ("registry.gitlab.com.evil.com", "https://gitlab.com/jwt/auth", False),
        ("registry.cn-hangzhou.aliyuncs.com", "https://dockerauth.oss.cn-hangzhou.aliyuncs.com/auth", False),
        ("harbor.corp", "https://auth.harbor.corp/token", False),
        ("harbor.corp", "https:///token", False),
        ("harbor.corp", "", False),
        ("gitlab.corp", "https://listed.corp/jwt/auth", True),
        ("gitlab.corp", "https://LISTED.corp./jwt/auth", False),
        ("gitlab.corp", "https://listed.corp:9999/jwt/auth", True),
        ("gitlab.corp", "https://ported.corp:5001/auth", True),
        ("gitlab.corp", "https://ported.corp/auth", False),
        ("gitlab.corp", "https://ported.corp:x/auth", False),
        ("gitlab.corp", "http://web.corp/auth", True),
        ("gitlab.corp", "https://web.corp/auth", False),
        ("gitlab.corp", "https://[fd00::1]:5001/auth", True),
    ],
)
def test_m6_the_hosts_of_token_servers_that_get_passwords(host: str, realm: str, expected: bool) -> None:
    listed = ["listed.corp", "ported.corp:5001", "web.corp:80", "[fd00::1]:5001"]
    assert expected is realms.is_trusted(realm, host, listed)


def test_realms_are_listed_by_registry_for_each_of_its_endpoints() -> None:
    found = grammar.listed(
        "docker.io=https://one.corp,docker.io=https://two.corp/hub",
        "",
        "docker.io=auth.corp,ghcr.io=Token.corp",
        only=False,
    )
    hub = found.locations(ImageRepository("docker.io", "library/nginx"))
    assert [("auth.corp",)] * 2 == [location.endpoint.realms for location in hub]
    assert [("token.corp",)] == [each.endpoint.realms for each in found.locations(ImageRepository("ghcr.io", "a"))]
    assert {"one.corp", "two.corp", "auth.corp", "ghcr.io", "token.corp"} == found.listed
    assert () == RegistryEndpoints().locations(ImageRepository("quay.io", "a"))[0].endpoint.realms


@pytest.mark.parametrize(
    ("text", "expected"),
    [("auth.corp:5001", "auth.corp:5001"), ("10.0.0.1:80", "10.0.0.1:80"), ("FD00::1", "[fd00::1]")],
)
def test_a_token_server_may_have_a_port(text: str, expected: str) -> None:
    found = grammar.listed("registry.corp:5000", "", f"registry.corp:5000={text}", only=False)
    (location,) = found.locations(ImageRepository("registry.corp:5000", "app"))
    assert (expected,) == location.endpoint.realms
    assert {"registry.corp:5000", expected} == found.listed


@pytest.mark.parametrize(
    "wrong",
    [
        "docker.io", "docker.io=", "=auth.corp", "docker.io=https://auth.corp", "a b=c", "docker.io=auth.corp:",
        "docker.io=auth.corp:0", "docker.io=auth.corp:65536", "docker.io=[auth.corp",
    ],
)  # fmt: skip
def test_invalid_realms_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"not a valid|registry"):
        grammar.listed("", "", wrong, only=False)
