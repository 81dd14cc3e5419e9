"""Each fault of a registry has a name and an action."""

import asyncio
import gzip
import json
import traceback

import pytest

from pantala_protocol import image
from pantala_supernode.errors import SourceError
from pantala_supernode.registry import errors
from pantala_supernode.registry.credentials import Keyring
from pantala_supernode.registry.manifest import MAX_SIZE, OCI_INDEX
from tests.support.eventually import eventually
from tests.support.fake_registry import PASSWORD, FakeRegistry, Handler, basic, service, sha256
from tests.support.registry_lab import AMD64, ANN, RegistryLab, cut, give, refuse, silent

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
        error = await RegistryLab(registry, opened).failure(Keyring([(registry.host, ANN)]))
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
        await eventually(lambda: len(other.asked) >= 16)
        async with asyncio.timeout(2):
            assert (await RegistryLab(registry, opened).resolve()).platforms
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_index_with_a_wrong_size_is_refused(lab: RegistryLab) -> None:
    media_type, body = lab.registry.manifests["1"]
    document = json.loads(body)
    document["manifests"][0]["size"] += 1
    wrong = json.dumps(document).encode()
    lab.registry.manifests["1"] = lab.registry.manifests[sha256(wrong)] = (media_type, wrong)
    assert isinstance(await lab.failure(), errors.InvalidManifestError)


async def test_deeply_nested_indexes_are_refused(lab: RegistryLab) -> None:
    inner = lab.registry.manifests["1"][1]
    for _ in range(4):
        child = {"digest": sha256(inner), "size": len(inner), "mediaType": OCI_INDEX}
        inner = json.dumps({"schemaVersion": 2, "manifests": [child]}).encode()
        lab.registry.manifests["1"] = lab.registry.manifests[sha256(inner)] = (OCI_INDEX, inner)
    assert isinstance(await lab.failure(), errors.InvalidManifestError)


async def test_a_refusal_is_remembered_for_some_seconds(lab: RegistryLab) -> None:
    lab.registry.faults["/manifests/"] = refuse(404)
    first = await lab.failure()
    second = await lab.failure()
    assert (["HEAD", "GET"], str(first)) == ([asked.method for asked in lab.registry.asked], str(second))
    lab.registry.faults.clear()
    lab.clock.now += 6
    await lab.resolve()


async def test_a_rate_limit_is_honoured(lab: RegistryLab) -> None:
    lab.registry.faults["/manifests/"] = refuse(429, Retry_After="60")
    await lab.failure()
    lab.clock.now += 59
    assert 60.0 == (await lab.failure()).retry_after
    assert 1 == len(lab.registry.asked)


@pytest.mark.parametrize("name", ["169.254.169.254/x", "[fe80::1]/x", "127.0.0.1:1/x", "registry.invalid/x"])
async def test_a_forbidden_or_missing_registry_is_named(lab: RegistryLab, name: str) -> None:
    with pytest.raises(errors.RegistryError) as caught:
        await lab.opened.client.resolve(image.parse(name), [AMD64], Keyring())
    assert type(caught.value) in (errors.RegistryDeniedError, errors.RegistryUnreachableError)
    assert name in str(caught.value)
