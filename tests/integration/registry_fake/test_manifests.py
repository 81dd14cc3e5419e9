"""Which image a tag names, and which clients may have its manifest."""

import asyncio

import pytest
from aiohttp import web

from pantala_protocol.image import ImageRepository
from pantala_protocol.images import ImageBlob
from pantala_supernode.registry import errors
from pantala_supernode.registry.credentials import RegistryAccount
from pantala_supernode.registry.manifest import OCI_MANIFEST
from tests.support.fake_registry import LAYER, TokenServer, sha256
from tests.support.registry_lab import AMD64, RegistryLab, refuse


async def test_a_tag_is_resolved_for_the_platform(lab: RegistryLab) -> None:
    found = await lab.resolve()
    assert sha256(lab.registry.manifests["1"][1]) == found.digest
    (manifest,) = found.platforms.values()
    assert (OCI_MANIFEST, (ImageBlob(sha256(LAYER), len(LAYER)),)) == (manifest.media_type, manifest.layers)
    assert ["HEAD", "GET", "GET"] == [asked.method for asked in lab.registry.asked]


async def test_a_tag_is_remembered_for_a_while_but_not_when_it_is_resolved(lab: RegistryLab) -> None:
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


async def test_concurrent_requests_are_shared(lab: RegistryLab, tokens: TokenServer) -> None:
    found = await asyncio.gather(*(lab.resolve() for _ in range(20)))
    assert 1 == len(set(map(str, found)))
    assert (1, 4) == (len(tokens.asked), len(lab.registry.asked))


async def test_a_cancelled_caller_does_not_affect_the_others(lab: RegistryLab) -> None:
    one, other = (asyncio.create_task(lab.resolve()) for _ in range(2))
    await asyncio.sleep(0.001)
    one.cancel()
    assert sha256(LAYER) == (await other).platforms[AMD64].layers[0].digest


@pytest.mark.parametrize("status", [200, 400, 403, 404, 405, 422, 500, 501, 502, 503])
async def test_a_get_replaces_an_unsupported_head(lab: RegistryLab, status: int) -> None:
    async def deaf(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=status) if request.method == "HEAD" else None

    lab.registry.faults["/manifests/1"] = deaf
    found = await lab.resolve()
    assert sha256(lab.registry.manifests["1"][1]) == found.digest
    assert 1 == sum(asked.path.endswith("/manifests/1") and asked.method == "GET" for asked in lab.registry.asked)
    if status != 200:
        assert (True, ()) == await lab.opened.access.check(lab.repository, found.digest)


@pytest.mark.parametrize("status", [401, 429])
async def test_a_get_does_not_follow_a_refusal_of_any_method(lab: RegistryLab, status: int) -> None:
    lab.registry.faults["/manifests/"] = refuse(status)
    await lab.failure()
    assert {"HEAD"} == {asked.method for asked in lab.registry.asked}


async def test_a_public_image_is_allowed_without_asking_again(lab: RegistryLab, tokens: TokenServer) -> None:
    digest = sha256(lab.registry.manifests["1"][1])
    assert (True, ()) == await lab.opened.access.check(lab.repository, digest)
    asked = len(lab.registry.asked)
    assert (await lab.opened.access.check(lab.repository, digest, "Bearer any")).allowed
    assert asked == len(lab.registry.asked)
    lab.clock.now += 301
    assert (await lab.opened.access.check(lab.repository, digest)).allowed
    assert asked < len(lab.registry.asked)


async def test_a_private_images_challenge_is_relayed_and_a_new_header_tried_once(
    lab: RegistryLab, tokens: TokenServer
) -> None:
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


async def test_a_failing_registry_gives_no_verdict(lab: RegistryLab) -> None:
    lab.registry.faults["/manifests/"] = refuse(500)
    with pytest.raises(errors.RegistryError):
        await lab.opened.access.check(lab.repository, "sha256:" + "a" * 64)
    lab.registry.faults.clear()
    with pytest.raises(errors.ImageNotFoundError):
        await lab.opened.access.check(lab.repository, "sha256:" + "a" * 64)


async def test_c1_a_page_to_log_in_is_not_a_consent_for_a_manifest(lab: RegistryLab) -> None:
    digest = sha256(lab.registry.manifests["1"][1])

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>log in</html>", content_type="text/html")

    lab.registry.faults["/manifests/"] = page
    for name in (digest, "1"):
        with pytest.raises(errors.InvalidAnswerError):
            await lab.opened.access.check(lab.repository, name, "Bearer x")
    lab.registry.faults.clear()
    assert (await lab.opened.access.check(lab.repository, digest, "Bearer x")).allowed
