"""Registries that redirect to object storage, to another registry, or elsewhere."""

import ssl
from pathlib import Path

import pytest
import trustme

from pantala_supernode import errors as supernode_errors
from pantala_supernode.origin.source import Resume
from pantala_supernode.registry import errors
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring
from pantala_supernode.registry.endpoint import RegistryEndpoints, RegistrySettings
from tests.support.fake_registry import LAYER, PASSWORD, FakeRegistry, Storage, TokenServer, basic, service, sha256
from tests.support.registry_lab import ANN, RegistryLab, elsewhere, refuse


async def test_object_storage_receives_no_credentials(lab: RegistryLab, tokens: TokenServer) -> None:
    async with Storage() as storage:
        lab.registry.storage = storage
        await lab.resolve()
        assert LAYER == await lab.read()
        assert LAYER[5000:] == await lab.read(resume=Resume(5000))
        assert [""] * 2 == [asked.authorization for asked in storage.asked]
        assert "Bearer token-1" == lab.registry.asked[-1].authorization


async def test_credentials_do_not_follow_a_redirect(lab: RegistryLab) -> None:
    lab.registry.accounts = {"ann": PASSWORD}
    async with FakeRegistry() as stranger:
        stranger.push("1")
        lab.registry.faults["/manifests/"] = elsewhere(stranger)
        await lab.resolve(lab.keys())
        assert 3 == len(stranger.asked)
        assert {""} == {asked.authorization for asked in stranger.asked}


async def test_the_target_of_a_redirect_cannot_ask_for_the_password(lab: RegistryLab) -> None:
    async with FakeRegistry() as stranger, TokenServer() as stealing:
        stranger.tokens, stealing.anonymous = stealing, False
        lab.registry.faults["/manifests/"] = elsewhere(stranger)
        assert isinstance(await lab.failure(lab.keys()), errors.RegistryUnauthorizedError)
        assert (False, ()) == await lab.opened.access.check(lab.repository, "sha256:" + "a" * 64)
        assert stranger.asked
        assert {""} == {asked.authorization for asked in (*stranger.asked, *stealing.asked)}


@pytest.mark.parametrize("first", ["", "own token", "the other's token"])
async def test_a_registry_may_forward_to_another_with_anonymous_tokens(
    lab: RegistryLab, tokens: TokenServer, first: str
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
            assert isinstance(await RegistryLab(registry, opened).failure(), errors.RegistryUnauthorizedError)
            assert [] == others.asked
        async with service(RegistryEndpoints(only=[registry.host, other.host])) as opened:
            assert (await RegistryLab(registry, opened).resolve()).platforms


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/x", "file:///etc/passwd", "http://user:x@127.0.0.1/", "/v2/team/app/manifests/1"],
)
async def test_a_forbidden_redirect_is_not_followed(lab: RegistryLab, location: str) -> None:
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
            await RegistryLab(registry, opened).resolve()
            assert LAYER == await RegistryLab(registry, opened).read()
            registry.faults["/v2/"] = elsewhere(plain)
            with pytest.raises(errors.RegistryDeniedError, match="https: to http:"):
                await RegistryLab(registry, opened).resolve()
            with pytest.raises(supernode_errors.SourceDeniedError):
                await RegistryLab(registry, opened).read()
        assert [] == plain.asked


async def test_https_is_required_unless_listed_otherwise(registry: FakeRegistry) -> None:
    async with service(RegistryEndpoints({registry.host: RegistrySettings(plain_http=False)})) as opened:
        error = await RegistryLab(registry, opened).failure(Keyring([(registry.host, ANN)]))
    assert isinstance(error, errors.RegistryCertificateError)
    assert "without TLS" in str(error)
    assert [] == registry.asked
