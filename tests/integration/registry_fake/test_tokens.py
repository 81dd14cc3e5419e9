"""Which credentials a registry and its token servers get."""

import asyncio
from ipaddress import ip_network

import pytest
from aiohttp import web

from pantala_supernode.errors import SourceError
from pantala_supernode.origin.source import Resume
from pantala_supernode.registry import errors
from pantala_supernode.registry.credentials import Keyring, RegistryAccount
from tests.support.fake_registry import LAYER, PASSWORD, Clock, FakeRegistry, TokenServer, basic, service
from tests.support.outbound import local_egress
from tests.support.registry_lab import ANN, RegistryLab, give, refuse


async def test_the_password_reaches_the_token_server_and_the_token_the_registry(
    lab: RegistryLab, tokens: TokenServer
) -> None:
    tokens.accounts, tokens.anonymous = {"ann": PASSWORD}, False
    await lab.resolve(lab.keys())
    assert LAYER == await lab.read(ANN)
    assert [basic("ann", PASSWORD)] == [asked.authorization for asked in tokens.asked]
    assert [("service", "fake"), ("scope", "repository:team/app:pull")] == tokens.asked[0].query
    assert {"", "Bearer token-1"} == {asked.authorization for asked in lab.registry.asked}


async def test_a_token_is_renewed_before_it_expires(lab: RegistryLab, tokens: TokenServer) -> None:
    await lab.resolve()
    lab.clock.now += 269
    await lab.read()
    assert 1 == len(tokens.asked)
    lab.clock.now += 2
    lab.registry.asked.clear()
    await lab.read()
    assert (2, ["Bearer token-2"]) == (len(tokens.asked), [asked.authorization for asked in lab.registry.asked])


async def test_a_refused_token_is_renewed_once(lab: RegistryLab, tokens: TokenServer) -> None:
    await lab.resolve()
    tokens.valid.clear()
    bodies = await asyncio.gather(*(lab.read() for _ in range(5)))
    assert {LAYER} == set(bodies)
    assert 2 == len(tokens.asked)
    tokens.valid.clear()
    assert LAYER[100:] == await lab.read(resume=Resume(100))


@pytest.mark.parametrize("second", ['Basic realm="harbor"', 'Digest realm="harbor"'])
async def test_only_a_challenge_of_the_registry_replaces_a_refused_token(
    lab: RegistryLab, tokens: TokenServer, second: str
) -> None:
    """Harbor's robot accounts: the token server issues a token, and the registry wants the password instead."""

    async def answer(request: web.Request) -> web.StreamResponse | None:
        header = request.headers.get("Authorization", "")
        bearer = f'Bearer realm="{tokens.url}/token",service="fake"'
        if header == basic("ann", PASSWORD):
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": second if header else bearer})

    tokens.accounts, tokens.fault = {"ann": PASSWORD}, give(b'{"token": "weak"}', "application/json")
    lab.registry.tokens, lab.registry.faults["/v2/"] = None, answer
    if second.startswith("Basic"):
        assert (await lab.resolve(lab.keys())).platforms
        assert ["", "Bearer weak"] == [asked.authorization for asked in lab.registry.asked][:2]
        assert LAYER == await lab.read(ANN)
        assert 1 == len(tokens.asked)
    else:
        assert isinstance(await lab.failure(lab.keys()), errors.RegistryUnauthorizedError)
        assert PASSWORD not in str([asked.authorization for asked in lab.registry.asked])
        assert basic("ann", PASSWORD) not in {asked.authorization for asked in lab.registry.asked}


@pytest.mark.parametrize("bearer", ["Bearer", 'Bearer realm="factory"', 'Bearer service="x"', "Negotiate"])
async def test_a_bearer_challenge_without_a_token_server_leaves_basic(lab: RegistryLab, bearer: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == basic("ann", PASSWORD):
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": f'{bearer}, Basic realm="r"'})

    lab.registry.faults["/v2/"] = answer
    assert (await lab.resolve(lab.keys())).platforms


async def test_a_token_is_preferred_to_a_password(lab: RegistryLab, tokens: TokenServer) -> None:
    tokens.accounts, tokens.anonymous = {"ann": PASSWORD}, False
    lab.registry.challenge = f'Basic realm="r", Bearer realm="{tokens.url}/token",service="fake"'
    assert (await lab.resolve(lab.keys())).platforms
    assert basic("ann", PASSWORD) not in {asked.authorization for asked in lab.registry.asked}


@pytest.mark.parametrize("status", [200, 201, 203])
async def test_a_token_comes_with_any_success(lab: RegistryLab, tokens: TokenServer, status: int) -> None:
    tokens.valid.add("given")
    tokens.fault = give(b'{"access_token": "given"}', "application/json", status)
    assert (await lab.resolve()).platforms


async def test_a_token_that_is_always_refused_is_an_error(lab: RegistryLab, tokens: TokenServer) -> None:
    await lab.resolve()
    tokens.valid.clear()
    tokens.fault = give(b'{"token": "useless"}', "application/json")
    lab.registry.asked.clear()
    with pytest.raises(errors.RegistryUnauthorizedError, match="team/app"):
        await lab.read()
    assert 3 == len(lab.registry.asked)
    assert isinstance(await lab.failure(lab.keys()), errors.RegistryUnauthorizedError)


async def test_an_identity_token_is_exchanged(lab: RegistryLab, tokens: TokenServer) -> None:
    tokens.identity_token = PASSWORD
    await lab.resolve(lab.keys(RegistryAccount(identity_token=PASSWORD)))
    tokens.valid.clear()
    assert LAYER == await lab.read(RegistryAccount(identity_token=PASSWORD))
    assert {"POST"} == {asked.method for asked in tokens.asked}
    assert not [asked for asked in lab.registry.asked if PASSWORD in asked.authorization]


async def test_a_registry_token_is_sent_unchanged(lab: RegistryLab, tokens: TokenServer) -> None:
    tokens.valid.add("given")
    await lab.resolve(lab.keys(RegistryAccount(registry_token="given")))
    assert LAYER == await lab.read(RegistryAccount(registry_token="given"))
    assert {"Bearer given"} == {asked.authorization for asked in lab.registry.asked}
    tokens.valid.clear()
    lab.registry.push("1", ["linux/amd64"])
    with pytest.raises(errors.RegistryUnauthorizedError):
        await lab.resolve(lab.keys(RegistryAccount(registry_token="given")))
    assert [] == tokens.asked


async def test_after_wrong_credentials_the_next_ones_are_tried(lab: RegistryLab, tokens: TokenServer) -> None:
    tokens.accounts, tokens.anonymous = {"ann": PASSWORD}, False
    keys = Keyring([(lab.registry.host, ANN), (f"{lab.registry.host}/team", RegistryAccount("bob", "old"))])
    await lab.resolve(keys)
    assert [basic("bob", "old"), basic("ann", PASSWORD)] == [asked.authorization for asked in tokens.asked]


async def test_answers_are_kept_apart_by_account(lab: RegistryLab, tokens: TokenServer) -> None:
    tokens.accounts, tokens.anonymous = {"ann": PASSWORD}, False
    found = await lab.resolve(lab.keys())
    for keys in (Keyring(), lab.keys(RegistryAccount("ann", "guess"))):
        with pytest.raises(errors.RegistryUnauthorizedError):
            await lab.resolve(keys)
    with pytest.raises(errors.RegistryUnauthorizedError):
        await lab.opened.client.manifest(lab.repository, found.digest)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"<html>", errors.InvalidAnswerError),
        (200, b"x" * 200_000, errors.InvalidAnswerError),
        (204, b"", errors.InvalidAnswerError),
        (302, b"", errors.InvalidAnswerError),
        (403, b"", errors.RegistryForbiddenError),
        (429, b"", errors.RateLimitedError),
        (503, b"", errors.RegistryFailedError),
        (404, b"", errors.InvalidAnswerError),
        (410, b"", errors.InvalidAnswerError),
        (400, b"", errors.RegistryUnauthorizedError),
        (401, b"", errors.RegistryUnauthorizedError),
    ],
)
async def test_a_fault_of_the_token_server_is_named(
    lab: RegistryLab, tokens: TokenServer, status: int, body: bytes, expected: type[SourceError]
) -> None:
    tokens.fault = give(body, "text/html", status)
    error = await lab.failure(lab.keys())
    assert expected is type(error)
    assert "team/app" in str(error)
    assert ("token server at" in str(error)) is (status in (404, 410))


async def test_a_token_server_that_moved_is_found_again(registry: FakeRegistry, tokens: TokenServer) -> None:
    clock = Clock()
    async with service(clock=clock) as opened, TokenServer() as another:
        await RegistryLab(registry, opened).resolve()
        registry.tokens = another
        tokens.fault = refuse(503)
        clock.now += 271
        with pytest.raises(errors.RegistryError):
            await RegistryLab(registry, opened).read()
        assert LAYER == await RegistryLab(registry, opened).read()


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ('Bearer realm="http://169.254.169.254/token"', errors.RegistryDeniedError),
        ('Bearer realm="http://[::ffff:169.254.169.254]/token"', errors.RegistryDeniedError),
        ('Bearer realm="http://198.51.100.7/token"', errors.RegistryDeniedError),
        ('Bearer realm="gopher://x/"', errors.InvalidAnswerError),
        ("Bearer", errors.InvalidAnswerError),
        ('Bearer realm="', errors.InvalidAnswerError),
        ('Digest realm="x"', errors.RegistryUnauthorizedError),
    ],
)
async def test_a_forbidden_realm_is_not_contacted(
    registry: FakeRegistry, tokens: TokenServer, challenge: str, expected: type[SourceError]
) -> None:
    registry.challenge = challenge
    async with service(egress=local_egress(ip_network("198.51.100.0/24"))) as opened:
        assert expected is type(await RegistryLab(registry, opened).failure(Keyring([(registry.host, ANN)])))
    assert [] == tokens.asked
