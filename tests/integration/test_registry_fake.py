"""Registries with token servers, with object storage, and with faults."""

import asyncio
import gzip
import json
import ssl
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from pantala_protocol import image
from pantala_protocol.image import ImageReference, ImageRepository
from pantala_protocol.images import ImageBlob
from pantala_protocol.reasons import Reason
from pantala_supernode import errors as supernode_errors
from pantala_supernode.errors import SourceError
from pantala_supernode.origin.body import Layout
from pantala_supernode.origin.source import Resume
from pantala_supernode.registry import errors
from pantala_supernode.registry.client import ResolvedImage
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoints, RegistrySettings
from pantala_supernode.registry.manifest import MAX_SIZE, OCI_INDEX, OCI_MANIFEST
from pantala_supernode.registry.platform import Platform
from pantala_supernode.registry.service import RegistryService
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from tests.support.cdn import TASK, CDNBench
from tests.support.fake_registry import (
    LAYER,
    PASSWORD,
    Clock,
    FakeRegistry,
    Handler,
    Storage,
    TokenServer,
    basic,
    service,
    sha256,
)
from tests.support.outbound import local_egress

AMD64 = Platform("linux", "amd64")
ANN = RegistryAccount("ann", PASSWORD)


@dataclass
class Lab:
    """A registry, and the supernode's service that uses it."""

    registry: FakeRegistry
    opened: RegistryService
    clock: Clock = field(default_factory=Clock)

    @property
    def name(self) -> ImageReference:
        return image.parse(f"{self.registry.host}/team/app:1")

    @property
    def repository(self) -> ImageRepository:
        return ImageRepository(self.registry.host, "team/app")

    def keys(self, account: RegistryAccount = ANN) -> Keyring:
        return Keyring([(self.registry.host, account)])

    async def resolve(self, keys: Keyring | None = None) -> ResolvedImage:
        return await self.opened.client.resolve(self.name, [AMD64], keys or Keyring())

    async def read(self, account: RegistryAccount = ANONYMOUS, resume: Resume | None = None) -> bytes:
        headers = {"Authorization": account.authorization} if account else {}
        blob = FileSource(f"{self.registry.url}/v2/team/app/blobs/{sha256(LAYER)}", headers, sha256(LAYER))
        async with self.opened.reader.open(blob, resume) as answer:
            return b"".join([block async for block in answer.body.blocks(Layout(65536))])

    async def failure(self, keys: Keyring | None = None) -> SourceError:
        with pytest.raises(SourceError) as caught:
            await self.resolve(keys)
        return caught.value


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as made:
        made.push("1", ["linux/amd64", "linux/arm64"])
        yield made


@pytest.fixture
async def lab(registry: FakeRegistry) -> AsyncIterator[Lab]:
    clock = Clock()
    async with service(clock=clock) as opened:
        yield Lab(registry, opened, clock)


@pytest.fixture
async def tokens(registry: FakeRegistry) -> AsyncIterator[TokenServer]:
    async with TokenServer() as made:
        registry.tokens = made
        yield made


# -- what is resolved


async def test_a_tag_is_resolved_for_the_platform(lab: Lab) -> None:
    found = await lab.resolve()
    assert sha256(lab.registry.manifests["1"][1]) == found.digest
    (manifest,) = found.platforms.values()
    assert (OCI_MANIFEST, (ImageBlob(sha256(LAYER), len(LAYER)),)) == (manifest.media_type, manifest.layers)
    assert ["HEAD", "GET", "GET"] == [asked.method for asked in lab.registry.asked]


async def test_a_tag_is_remembered_for_a_while_but_not_when_it_is_resolved(lab: Lab) -> None:
    one = await lab.opened.client.manifest(lab.repository, "1")
    moved = lab.registry.push("1", layer=b"another")
    assert one == await lab.opened.client.manifest(lab.repository, "1")
    assert len(lab.registry.asked) == 2
    assert moved == (await lab.resolve()).digest
    lab.registry.push("1", ["linux/amd64", "linux/arm64"])
    lab.clock.now += 31
    lab.registry.asked.clear()
    assert one == await lab.opened.client.manifest(lab.repository, "1")
    assert ["HEAD"] == [asked.method for asked in lab.registry.asked]


async def test_concurrent_requests_are_shared(lab: Lab, tokens: TokenServer) -> None:
    found = await asyncio.gather(*(lab.resolve() for _ in range(20)))
    assert 1 == len(set(map(str, found)))
    assert (1, 4) == (len(tokens.asked), len(lab.registry.asked))


async def test_a_cancelled_caller_does_not_affect_the_others(lab: Lab) -> None:
    one, other = (asyncio.create_task(lab.resolve()) for _ in range(2))
    await asyncio.sleep(0.001)
    one.cancel()
    assert sha256(LAYER) == (await other).platforms[AMD64].layers[0].digest


@pytest.mark.parametrize("status", [200, 400, 403, 404, 405, 422, 500, 501, 502, 503])
async def test_a_get_replaces_an_unsupported_head(lab: Lab, status: int) -> None:
    async def deaf(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=status) if request.method == "HEAD" else None

    lab.registry.faults["/manifests/1"] = deaf
    found = await lab.resolve()
    assert sha256(lab.registry.manifests["1"][1]) == found.digest
    assert 1 == sum(asked.path.endswith("/manifests/1") and asked.method == "GET" for asked in lab.registry.asked)
    if status != 200:
        assert (True, ()) == await lab.opened.access.check(lab.repository, found.digest)


@pytest.mark.parametrize("status", [401, 429])
async def test_a_get_does_not_follow_a_refusal_of_any_method(lab: Lab, status: int) -> None:
    lab.registry.faults["/manifests/"] = refuse(status)
    await lab.failure()
    assert {"HEAD"} == {asked.method for asked in lab.registry.asked}


# -- tokens


async def test_the_password_reaches_the_token_server_and_the_token_the_registry(lab: Lab, tokens: TokenServer) -> None:
    tokens.accounts, tokens.anonymous = {"ann": PASSWORD}, False
    await lab.resolve(lab.keys())
    assert LAYER == await lab.read(ANN)
    assert [basic("ann", PASSWORD)] == [asked.authorization for asked in tokens.asked]
    assert [("service", "fake"), ("scope", "repository:team/app:pull")] == tokens.asked[0].query
    assert {"", "Bearer token-1"} == {asked.authorization for asked in lab.registry.asked}


async def test_a_token_is_renewed_before_it_expires(lab: Lab, tokens: TokenServer) -> None:
    await lab.resolve()
    lab.clock.now += 269
    await lab.read()
    assert 1 == len(tokens.asked)
    lab.clock.now += 2
    lab.registry.asked.clear()
    await lab.read()
    assert (2, ["Bearer token-2"]) == (len(tokens.asked), [asked.authorization for asked in lab.registry.asked])


async def test_a_refused_token_is_renewed_once(lab: Lab, tokens: TokenServer) -> None:
    await lab.resolve()
    tokens.valid.clear()
    bodies = await asyncio.gather(*(lab.read() for _ in range(5)))
    assert {LAYER} == set(bodies)
    assert 2 == len(tokens.asked)
    tokens.valid.clear()
    assert LAYER[100:] == await lab.read(resume=Resume(100))


@pytest.mark.parametrize("second", ['Basic realm="harbor"', 'Digest realm="harbor"'])
async def test_only_a_challenge_of_the_registry_replaces_a_refused_token(
    lab: Lab, tokens: TokenServer, second: str
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
async def test_a_bearer_challenge_without_a_token_server_leaves_basic(lab: Lab, bearer: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == basic("ann", PASSWORD):
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": f'{bearer}, Basic realm="r"'})

    lab.registry.faults["/v2/"] = answer
    assert (await lab.resolve(lab.keys())).platforms


async def test_a_token_is_preferred_to_a_password(lab: Lab, tokens: TokenServer) -> None:
    tokens.accounts, tokens.anonymous = {"ann": PASSWORD}, False
    lab.registry.challenge = f'Basic realm="r", Bearer realm="{tokens.url}/token",service="fake"'
    assert (await lab.resolve(lab.keys())).platforms
    assert basic("ann", PASSWORD) not in {asked.authorization for asked in lab.registry.asked}


@pytest.mark.parametrize("status", [200, 201, 203])
async def test_a_token_comes_with_any_success(lab: Lab, tokens: TokenServer, status: int) -> None:
    tokens.valid.add("given")
    tokens.fault = give(b'{"access_token": "given"}', "application/json", status)
    assert (await lab.resolve()).platforms


async def test_a_token_that_is_always_refused_is_an_error(lab: Lab, tokens: TokenServer) -> None:
    await lab.resolve()
    tokens.valid.clear()
    tokens.fault = give(b'{"token": "useless"}', "application/json")
    lab.registry.asked.clear()
    with pytest.raises(errors.RegistryUnauthorizedError, match="team/app"):
        await lab.read()
    assert 3 == len(lab.registry.asked)
    assert isinstance(await lab.failure(lab.keys()), errors.RegistryUnauthorizedError)


async def test_an_identity_token_is_exchanged(lab: Lab, tokens: TokenServer) -> None:
    tokens.identity_token = PASSWORD
    await lab.resolve(lab.keys(RegistryAccount(identity_token=PASSWORD)))
    tokens.valid.clear()
    assert LAYER == await lab.read(RegistryAccount(identity_token=PASSWORD))
    assert {"POST"} == {asked.method for asked in tokens.asked}
    assert not [asked for asked in lab.registry.asked if PASSWORD in asked.authorization]


async def test_a_registry_token_is_sent_unchanged(lab: Lab, tokens: TokenServer) -> None:
    tokens.valid.add("given")
    await lab.resolve(lab.keys(RegistryAccount(registry_token="given")))
    assert LAYER == await lab.read(RegistryAccount(registry_token="given"))
    assert {"Bearer given"} == {asked.authorization for asked in lab.registry.asked}
    tokens.valid.clear()
    lab.registry.push("1", ["linux/amd64"])
    with pytest.raises(errors.RegistryUnauthorizedError):
        await lab.resolve(lab.keys(RegistryAccount(registry_token="given")))
    assert [] == tokens.asked


async def test_after_wrong_credentials_the_next_ones_are_tried(lab: Lab, tokens: TokenServer) -> None:
    tokens.accounts, tokens.anonymous = {"ann": PASSWORD}, False
    keys = Keyring([(lab.registry.host, ANN), (f"{lab.registry.host}/team", RegistryAccount("bob", "old"))])
    await lab.resolve(keys)
    assert [basic("bob", "old"), basic("ann", PASSWORD)] == [asked.authorization for asked in tokens.asked]


async def test_answers_are_kept_apart_by_account(lab: Lab, tokens: TokenServer) -> None:
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
    lab: Lab, tokens: TokenServer, status: int, body: bytes, expected: type[SourceError]
) -> None:
    tokens.fault = give(body, "text/html", status)
    error = await lab.failure(lab.keys())
    assert expected is type(error)
    assert "team/app" in str(error)
    assert ("token server at" in str(error)) is (status in (404, 410))


async def test_a_token_server_that_moved_is_found_again(registry: FakeRegistry, tokens: TokenServer) -> None:
    clock = Clock()
    async with service(clock=clock) as opened, TokenServer() as another:
        await Lab(registry, opened).resolve()
        registry.tokens = another
        tokens.fault = refuse(503)
        clock.now += 271
        with pytest.raises(errors.RegistryError):
            await Lab(registry, opened).read()
        assert LAYER == await Lab(registry, opened).read()


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
        assert expected is type(await Lab(registry, opened).failure(Keyring([(registry.host, ANN)])))
    assert [] == tokens.asked


# -- redirects


async def test_object_storage_receives_no_credentials(lab: Lab, tokens: TokenServer) -> None:
    async with Storage() as storage:
        lab.registry.storage = storage
        await lab.resolve()
        assert LAYER == await lab.read()
        assert LAYER[5000:] == await lab.read(resume=Resume(5000))
        assert [""] * 2 == [asked.authorization for asked in storage.asked]
        assert "Bearer token-1" == lab.registry.asked[-1].authorization


def elsewhere(other: FakeRegistry) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{other.url}{request.path}"})

    return answer


async def test_credentials_do_not_follow_a_redirect(lab: Lab) -> None:
    lab.registry.accounts = {"ann": PASSWORD}
    async with FakeRegistry() as stranger:
        stranger.push("1")
        lab.registry.faults["/manifests/"] = elsewhere(stranger)
        await lab.resolve(lab.keys())
        assert 3 == len(stranger.asked)
        assert {""} == {asked.authorization for asked in stranger.asked}


async def test_the_target_of_a_redirect_cannot_ask_for_the_password(lab: Lab) -> None:
    async with FakeRegistry() as stranger, TokenServer() as stealing:
        stranger.tokens, stealing.anonymous = stealing, False
        lab.registry.faults["/manifests/"] = elsewhere(stranger)
        assert isinstance(await lab.failure(lab.keys()), errors.RegistryUnauthorizedError)
        assert (False, ()) == await lab.opened.access.check(lab.repository, "sha256:" + "a" * 64)
        assert stranger.asked
        assert {""} == {asked.authorization for asked in (*stranger.asked, *stealing.asked)}


@pytest.mark.parametrize("first", ["", "own token", "the other's token"])
async def test_a_registry_may_forward_to_another_with_anonymous_tokens(
    lab: Lab, tokens: TokenServer, first: str
) -> None:
    """As lscr.io forwards to ghcr.io. The pull secret stays with the first registry."""
    async with FakeRegistry() as other, TokenServer() as others:
        other.push("1", ["linux/amd64", "linux/arm64"])
        other.tokens = others
        lab.registry.faults["/v2/"] = elsewhere(other)
        lab.registry.tokens = {"": None, "own token": tokens, "the other's token": others}[first]
        keys = Keyring() if "other" in first else lab.keys()
        account = ANONYMOUS if "other" in first else ANN
        tokens.accounts = {"ann": PASSWORD}
        found = await lab.resolve(keys)
        assert sha256(other.manifests["1"][1]) == found.digest
        assert LAYER == await lab.read(account)
        assert LAYER[5000:] == await lab.read(account, Resume(5000))
        assert (True, ()) == await lab.opened.access.check(lab.repository, found.digest)
        assert {""} == {asked.authorization for asked in others.asked}
        assert basic("ann", PASSWORD) not in {asked.authorization for asked in other.asked}
        others.valid.clear()
        others.anonymous = False
        lab.clock.now += 4000
        assert isinstance(await lab.failure(keys), errors.RegistryUnauthorizedError)
        with pytest.raises(errors.RegistryUnauthorizedError):
            await lab.read(account)


async def test_a_registry_cannot_forward_to_a_registry_that_is_not_allowed(registry: FakeRegistry) -> None:
    async with FakeRegistry() as other, TokenServer() as others:
        other.push("1")
        other.tokens = others
        registry.faults["/v2/"] = elsewhere(other)
        async with service(RegistryEndpoints(only=[registry.host])) as opened:
            assert isinstance(await Lab(registry, opened).failure(), errors.RegistryUnauthorizedError)
            assert [] == others.asked
        async with service(RegistryEndpoints(only=[registry.host, other.host])) as opened:
            assert (await Lab(registry, opened).resolve()).platforms


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/x", "file:///etc/passwd", "http://user:x@127.0.0.1/", "/v2/team/app/manifests/1"],
)
async def test_a_forbidden_redirect_is_not_followed(lab: Lab, location: str) -> None:
    lab.registry.faults["/manifests/1"] = refuse(302, Location=location)
    error = await lab.failure()
    assert isinstance(error, errors.RegistryDeniedError | errors.InvalidAnswerError)
    assert len(lab.registry.asked) <= 11


async def test_a_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with FakeRegistry(context) as registry, FakeRegistry() as plain:
        registry.push("1")
        endpoints = RegistryEndpoints({registry.host: RegistrySettings(ca=ca)})
        async with service(endpoints) as opened:
            await Lab(registry, opened).resolve()
            assert LAYER == await Lab(registry, opened).read()
            registry.faults["/v2/"] = elsewhere(plain)
            with pytest.raises(errors.RegistryDeniedError, match="https: to http:"):
                await Lab(registry, opened).resolve()
            with pytest.raises(supernode_errors.SourceDeniedError):
                await Lab(registry, opened).read()
        assert [] == plain.asked


async def test_https_is_required_unless_listed_otherwise(registry: FakeRegistry) -> None:
    async with service(RegistryEndpoints({registry.host: RegistrySettings(plain_http=False)})) as opened:
        error = await Lab(registry, opened).failure(Keyring([(registry.host, ANN)]))
    assert isinstance(error, errors.RegistryCertificateError)
    assert "without TLS" in str(error)
    assert [] == registry.asked


# -- faults


def give(body: bytes, media_type: str = OCI_MANIFEST, status: int = 200, **headers: str) -> Handler:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={"Content-Type": media_type, **headers})

    return answer


def refuse(status: int, **headers: str) -> Handler:
    return give(b"", status=status, **headers)


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": OCI_INDEX, "Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b'{"schemaVersion"')
    if request.transport is not None:
        request.transport.close()
    return response


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


FAULTS: list[tuple[str, Handler, type[SourceError]]] = [
    ("/manifests/", give(b"<html>", "text/html"), errors.InvalidManifestError),
    ("/manifests/", give(b"\x00garbage"), errors.InvalidManifestError),
    ("/manifests/sha256", give(b"{}"), errors.InvalidManifestError),
    ("/manifests/", give(b"x" * (MAX_SIZE + 1)), errors.InvalidAnswerError),
    ("/manifests/", give(b"{}", Docker_Content_Digest="latest"), errors.InvalidAnswerError),
    ("/manifests/", give(gzip.compress(b"{}"), Content_Encoding="gzip"), errors.InvalidManifestError),
    ("/manifests/", give(gzip.compress(b"{}")[:-4], Content_Encoding="gzip"), errors.InvalidAnswerError),
    ("/manifests/", give(gzip.compress(b" " * (MAX_SIZE + 1)), Content_Encoding="gzip"), errors.InvalidAnswerError),
    ("/manifests/", give(gzip.compress(b"{}"), Content_Encoding="br"), errors.InvalidAnswerError),
    ("/manifests/", give(gzip.compress(b"{}")), errors.InvalidManifestError),
    ("/manifests/sha256", cut, errors.RegistryUnreachableError),
    ("/manifests/", silent, errors.RegistryUnreachableError),
    ("/manifests/", refuse(404), errors.ImageNotFoundError),
    ("/manifests/", refuse(403), errors.RegistryForbiddenError),
    ("/manifests/", refuse(401), errors.RegistryUnauthorizedError),
    ("/manifests/", refuse(500), errors.RegistryFailedError),
    ("/manifests/", refuse(503), errors.RegistryFailedError),
    ("/manifests/", refuse(304), errors.InvalidAnswerError),
    ("/manifests/", refuse(429, Retry_After="7"), errors.RateLimitedError),
]


@pytest.mark.parametrize(("path", "fault", "expected"), FAULTS)
async def test_a_fault_of_the_registry_is_named_with_an_action(
    registry: FakeRegistry, path: str, fault: Handler, expected: type[SourceError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    registry.accounts = {"ann": PASSWORD}
    registry.faults[path] = fault
    async with service(total=0.5 if fault is silent else 10.0) as opened:
        error = await Lab(registry, opened).failure(Keyring([(registry.host, ANN)]))
    assert expected is type(error)
    assert isinstance(error, errors.RegistryError)
    assert (registry.host in str(error), str(error).endswith(error.image_reason.action)) == (True, True)
    shown = caplog.text + "".join(traceback.format_exception(error))
    assert not [secret for secret in (PASSWORD, basic("ann", PASSWORD)) if secret in shown]
    assert (7.0 if expected is errors.RateLimitedError else None) == error.retry_after


async def test_a_silent_registry_leaves_places_for_another_one(registry: FakeRegistry) -> None:
    async with FakeRegistry() as other, service(total=5.0) as opened:
        other.faults["/manifests/"] = silent
        names = [image.parse(f"{other.host}/team/app-{number}:1") for number in range(250)]
        waiting = [asyncio.create_task(opened.client.resolve(name, [AMD64], Keyring())) for name in names]
        await asyncio.sleep(0.3)
        async with asyncio.timeout(2):
            assert (await Lab(registry, opened).resolve()).platforms
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_index_with_a_wrong_size_is_refused(lab: Lab) -> None:
    media_type, body = lab.registry.manifests["1"]
    document = json.loads(body)
    document["manifests"][0]["size"] += 1
    wrong = json.dumps(document).encode()
    lab.registry.manifests["1"] = lab.registry.manifests[sha256(wrong)] = (media_type, wrong)
    assert isinstance(await lab.failure(), errors.InvalidManifestError)


async def test_deeply_nested_indexes_are_refused(lab: Lab) -> None:
    inner = lab.registry.manifests["1"][1]
    for _ in range(4):
        child = {"digest": sha256(inner), "size": len(inner), "mediaType": OCI_INDEX}
        inner = json.dumps({"schemaVersion": 2, "manifests": [child]}).encode()
        lab.registry.manifests["1"] = lab.registry.manifests[sha256(inner)] = (OCI_INDEX, inner)
    assert isinstance(await lab.failure(), errors.InvalidManifestError)


async def test_a_refusal_is_remembered_for_some_seconds(lab: Lab) -> None:
    lab.registry.faults["/manifests/"] = refuse(404)
    first = await lab.failure()
    second = await lab.failure()
    assert (["HEAD", "GET"], str(first)) == ([asked.method for asked in lab.registry.asked], str(second))
    lab.registry.faults.clear()
    lab.clock.now += 6
    await lab.resolve()


async def test_a_rate_limit_is_honoured(lab: Lab) -> None:
    lab.registry.faults["/manifests/"] = refuse(429, Retry_After="60")
    await lab.failure()
    lab.clock.now += 59
    assert 60.0 == (await lab.failure()).retry_after
    assert 1 == len(lab.registry.asked)


@pytest.mark.parametrize("name", ["169.254.169.254/x", "[fe80::1]/x", "127.0.0.1:1/x", "registry.invalid/x"])
async def test_a_forbidden_or_missing_registry_is_named(lab: Lab, name: str) -> None:
    with pytest.raises(errors.RegistryError) as caught:
        await lab.opened.client.resolve(image.parse(name), [AMD64], Keyring())
    assert type(caught.value) in (errors.RegistryDeniedError, errors.RegistryUnreachableError)
    assert name in str(caught.value)


# -- blobs


async def test_a_missing_or_forbidden_blob_is_an_error_of_the_registry(lab: Lab) -> None:
    await lab.resolve()
    for status, expected in ((404, errors.ImageNotFoundError), (403, errors.RegistryForbiddenError)):
        lab.registry.faults["/blobs/"] = refuse(status)
        with pytest.raises(expected, match="blob"):
            await lab.read()


@pytest.mark.parametrize(
    "label", ["x-gzip", "gzip", "GZIP", "aws-chunked", "none", "utf-8", "binary", "identity", "zstd", "br", ""]
)
async def test_the_digest_of_a_layer_decides_and_not_a_label(lab: Lab, label: str) -> None:
    lab.registry.faults["/blobs/"] = give(LAYER, "application/octet-stream", Content_Encoding=label)
    assert LAYER == await lab.read()


@pytest.mark.parametrize("label", ["gzip", "x-gzip", "none", "utf-8", "aws-chunked", "identity", "br", "zstd"])
async def test_a_label_on_a_readable_manifest_means_nothing(lab: Lab, label: str) -> None:
    media_type, body = lab.registry.manifests["1"]
    labelled = give(body, media_type, Content_Encoding=label, Docker_Content_Digest=sha256(body))
    lab.registry.faults[f"/manifests/{sha256(body)}"] = labelled
    assert (await lab.resolve()).platforms


@pytest.mark.parametrize("label", ["gzip", "X-GZIP"])
async def test_a_proxy_may_compress_a_manifest(lab: Lab, label: str) -> None:
    media_type, body = lab.registry.manifests["1"]
    packed = give(gzip.compress(body), media_type, Content_Encoding=label, Docker_Content_Digest=sha256(body))
    lab.registry.faults[f"/manifests/{sha256(body)}"] = packed
    assert (await lab.resolve()).platforms


@pytest.mark.parametrize(
    "wrong", [b"", LAYER[:-1], LAYER + b"x", gzip.compress(LAYER), b"x" * len(LAYER), LAYER[1:], b"\0", LAYER * 2]
)
async def test_other_bytes_never_become_the_layer(lab: Lab, tmp_path: Path, wrong: bytes) -> None:
    lab.registry.faults["/blobs/"] = give(wrong, "application/octet-stream", Content_Encoding="x-gzip")
    blob = FileSource(f"{lab.registry.url}/v2/team/app/blobs/{sha256(LAYER)}", {}, sha256(LAYER))
    async with CDNBench(tmp_path, lab.opened.reader) as bench:
        bench.cdn.trigger(FetchOrder(TASK, blob, retry_limit=0))
        assert Reason.DIGEST_MISMATCH == (await bench.failure()).reason


@pytest.mark.parametrize(
    "extra", [b"", b"x", b"{}", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100, b"x" * 70_000, b"\0"]
)
async def test_an_answer_to_head_may_have_a_body(extra: bytes) -> None:
    image_digest = "sha256:" + "a" * 64
    fields = (b"Content-Type: " + OCI_MANIFEST.encode(), b"Docker-Content-Digest: " + image_digest.encode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HEAD ")
        writer.write(b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: 7", *fields, b"", b"")) + extra)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server, service() as opened:
        repository = ImageRepository(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "team/app")
        for _ in range(2):
            assert (await opened.access.check(repository, image_digest, fresh=True)).allowed


async def test_a_registry_without_a_challenge_receives_no_credentials(lab: Lab) -> None:
    await lab.resolve(lab.keys())
    assert LAYER == await lab.read(ANN)
    assert {""} == {asked.authorization for asked in lab.registry.asked}


async def test_other_urls_are_read_as_before(registry: FakeRegistry) -> None:
    registry.faults["/file"] = give(b"content")
    async with (
        service() as opened,
        opened.reader.open(FileSource(f"{registry.url}/file", {"Authorization": "Custom x"})) as answer,
    ):
        assert b"content" == b"".join([block async for block in answer.body.blocks(Layout(65536))])
    assert ["Custom x"] == [asked.authorization for asked in registry.asked]


# -- the relay


async def test_a_public_image_is_allowed_without_asking_again(lab: Lab, tokens: TokenServer) -> None:
    digest = sha256(lab.registry.manifests["1"][1])
    assert (True, ()) == await lab.opened.access.check(lab.repository, digest)
    asked = len(lab.registry.asked)
    assert (await lab.opened.access.check(lab.repository, digest, "Bearer any")).allowed
    assert asked == len(lab.registry.asked)
    lab.clock.now += 301
    assert (await lab.opened.access.check(lab.repository, digest)).allowed
    assert asked < len(lab.registry.asked)


async def test_a_private_images_challenge_is_relayed_and_a_new_header_tried_once(lab: Lab, tokens: TokenServer) -> None:
    tokens.anonymous = False
    tokens.valid.add("node's")
    where, digest = lab.repository, sha256(lab.registry.manifests["1"][1])
    challenge = f'Bearer realm="{tokens.url}/token",service="fake",scope="repository:team/app:pull"'
    assert (False, (challenge,)) == await lab.opened.access.check(where, digest)
    lab.registry.asked.clear()
    assert (False, (challenge,)) == await lab.opened.access.check(where, digest, "Bearer wrong")
    assert (["Bearer wrong"], 1) == ([asked.authorization for asked in lab.registry.asked], len(tokens.asked))
    lab.registry.asked.clear()
    for name in (digest, digest, *lab.registry.manifests):
        assert (True, ()) == await lab.opened.access.check(where, name, "Bearer node's")
    others = len(lab.registry.manifests.keys() - {digest})
    assert (1 + others) * ["Bearer node's"] == [asked.authorization for asked in lab.registry.asked]
    assert not (await lab.opened.access.check(where, digest)).allowed
    assert not (
        await lab.opened.access.check(ImageRepository(lab.registry.host, "team/other"), digest, "Bearer x")
    ).allowed
    found = await lab.opened.client.manifest(where, digest, RegistryAccount.read("Bearer node's"))
    assert digest == found.digest


async def test_a_failing_registry_gives_no_verdict(lab: Lab) -> None:
    lab.registry.faults["/manifests/"] = refuse(500)
    with pytest.raises(errors.RegistryError):
        await lab.opened.access.check(lab.repository, "sha256:" + "a" * 64)
    lab.registry.faults.clear()
    with pytest.raises(errors.ImageNotFoundError):
        await lab.opened.access.check(lab.repository, "sha256:" + "a" * 64)


async def test_c1_a_page_to_log_in_is_not_a_consent_for_a_manifest(lab: Lab) -> None:
    digest = sha256(lab.registry.manifests["1"][1])

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>log in</html>", content_type="text/html")

    lab.registry.faults["/manifests/"] = page
    for name in (digest, "1"):
        with pytest.raises(errors.InvalidAnswerError):
            await lab.opened.access.check(lab.repository, name, "Bearer x")
    lab.registry.faults.clear()
    assert (await lab.opened.access.check(lab.repository, digest, "Bearer x")).allowed
