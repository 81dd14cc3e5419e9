"""Manifests are verified, requested once, kept within bounds, and served to clients that the registry let in."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.manifests import CachedManifests, DigestInfo, RegistryChallenge, ServedManifest
from pantala_peer.mirror.rights import ReadRights
from pantala_peer.mirror.supernode import SupernodeRegistries
from pantala_protocol.image import ImageRepository
from pantala_protocol.registry import ManifestAnswer
from pantala_protocol.rules.rights import SECONDS, Rights
from tests.support.pieces import sha256 as digest

REPOSITORY = ImageRepository("r", "a")
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def body(number: int = 0) -> bytes:
    return json.dumps({"n": number, "config": {"digest": A, "size": 5}, "layers": []}).encode()


BODY, DIGEST = body(), digest(body())


def answer(number: int = 0) -> ManifestAnswer:
    return ManifestAnswer(digest(body(number)), "a/b", body(number))


CHALLENGE = ManifestAnswer(challenges=('Basic realm="x"',))


class FakeSupernode(SupernodeRegistries):
    """Gives its answers one after the other, the last one again and again, while ``go`` is set."""

    def __init__(self, *answers: ManifestAnswer | MirrorError) -> None:
        self.answers = list(answers)
        self.questions: list[tuple[str, str]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def manifest(
        self, repository: ImageRepository, reference: str, authorization: str, order: str
    ) -> ManifestAnswer:
        self.questions.append((reference, order or authorization))
        await self.go.wait()
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, MirrorError):
            raise found
        return found


class Cache:
    def __init__(self, *answers: ManifestAnswer | MirrorError, **settings: int) -> None:
        self.now = 0.0
        self.supernode = FakeSupernode(*answers)
        self.rights = ReadRights(self.supernode, Rights(b"k"), lambda: self.now)
        self.manifests = CachedManifests(self.supernode, self.rights, lambda: self.now, **settings)

    async def get(self, reference: str = DIGEST, authorization: str = "", order: str = "") -> Any:
        return await self.manifests.get(REPOSITORY, reference, authorization, order)

    def holds(self, reference: str = DIGEST, authorization: str = "") -> bool:
        return self.manifests.holds(REPOSITORY, reference, authorization)


async def test_a_manifest_is_requested_once_and_tells_the_sizes_of_the_digests_it_names() -> None:
    cache = Cache(answer())
    for _ in range(3):
        assert (await cache.get()).body == BODY
    assert 1 == len(cache.supernode.questions)
    assert DigestInfo(5, is_config=True) == cache.manifests.info(cache.rights.client(str(REPOSITORY), ""), A)
    assert cache.manifests.info(cache.rights.client(str(REPOSITORY), "Bearer x"), A) is None


async def test_c1_a_manifest_that_names_a_cached_manifest_gives_no_right_to_it() -> None:
    index = json.dumps({"manifests": [{"digest": DIGEST, "size": len(BODY)}]}).encode()
    cache = Cache(answer(), ManifestAnswer(digest(index), "a/b", index), ManifestAnswer())
    await cache.get(authorization="Basic good")
    liar = ImageRepository("liar", "a")
    assert isinstance(await cache.manifests.get(liar, digest(index), ""), ServedManifest)
    assert not cache.manifests.holds(liar, DIGEST, "")
    with pytest.raises(MirrorError):
        await cache.manifests.get(liar, DIGEST, "")


async def test_clients_share_a_request_and_one_that_leaves_does_not_stop_it() -> None:
    cache = Cache(answer())
    cache.supernode.go.clear()
    asking = [asyncio.create_task(cache.get()) for _ in range(3)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    await asyncio.sleep(0)
    cache.supernode.go.set()
    assert [BODY] * 2 == [found.body for found in await asyncio.gather(*asking[1:])]
    assert 1 == len(cache.supernode.questions)


async def test_a_kept_manifest_is_not_served_to_a_client_that_the_registry_rejects() -> None:
    cache = Cache(answer(), CHALLENGE)
    await cache.get(authorization="Basic good")
    assert RegistryChallenge(CHALLENGE.challenges) == await cache.get()
    assert not cache.holds()
    assert cache.holds(authorization="Basic good")


async def test_the_manifest_of_an_order_is_served_to_its_own_client_alone() -> None:
    cache = Cache(answer())
    assert isinstance(await cache.get(authorization="Basic once", order="ns/a"), ServedManifest)
    assert [(DIGEST, "ns/a")] == cache.supernode.questions
    assert cache.holds(authorization="Basic once")
    assert not cache.holds()


async def test_a_rejected_order_is_a_miss_and_not_a_challenge() -> None:
    with pytest.raises(MirrorError, match="pull secrets"):
        await Cache(CHALLENGE).get(authorization="Basic once", order="ns/a")


async def test_an_expired_right_is_requested_again_although_it_is_used() -> None:
    cache = Cache(answer())
    for cache.now in (0.0, SECONDS / 2, SECONDS + 1):
        await cache.get()
    assert 2 == len(cache.supernode.questions)


async def test_a_tag_is_requested_each_time_and_grants_its_digest() -> None:
    cache = Cache(answer())
    for _ in range(2):
        await cache.get("latest")
    assert [("latest", "")] * 2 == cache.supernode.questions
    assert cache.holds()


async def test_the_memory_is_bounded() -> None:
    cache = Cache(*(answer(number) for number in range(10)), memory=3 * len(BODY))
    for number in range(10):
        await cache.get(digest(body(number)))
    assert [7, 8, 9] == [n for n in range(10) if cache.holds(digest(body(n)))]


@pytest.mark.parametrize(
    "wrong",
    [
        ManifestAnswer(),
        ManifestAnswer(digest(b"x"), "a/b", BODY),
        answer(1),
        ManifestAnswer(challenges=("Basic realm=x\r\nX: y",)),
        MirrorError("no"),
    ],
)
async def test_any_other_answer_is_a_miss(wrong: ManifestAnswer | MirrorError) -> None:
    cache = Cache(wrong)
    with pytest.raises(MirrorError):
        await cache.get()
    assert not cache.holds()


# Documents


def check(content: object) -> ServedManifest:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return ServedManifest.check(digest(body), "application/x", body)


def test_a_manifest_names_itself_its_configuration_and_its_layers() -> None:
    layers = [{"digest": B, "size": 2}, {"digest": C, "size": 3}]
    found = check({"schemaVersion": 2, "config": {"digest": A, "size": 1}, "layers": layers})
    itself = {found.digest: DigestInfo(len(found.body))}
    assert itself | {A: DigestInfo(1, is_config=True), B: DigestInfo(2), C: DigestInfo(3)} == found.named()


def test_an_index_names_its_manifests() -> None:
    found = check({"manifests": [{"digest": A, "size": 1, "platform": {"os": "linux"}}]})
    assert {found.digest: DigestInfo(len(found.body)), A: DigestInfo(1)} == found.named()


def test_a_manifest_with_a_huge_digest_names_itself_alone() -> None:
    """Up to 100,000 digests of manifests are cached. They are short, so that they do not take all memory."""
    found = check({"layers": [{"digest": "sha256:" + "a" * 100_000, "size": 1}, {"digest": A, "size": 1}]})
    assert {found.digest: DigestInfo(len(found.body))} == found.named()


@given(st.binary(max_size=100) | st.just(b'{"layers": [{"digest": 1}]}') | st.just(b'{"layers":' + b"[" * 5000))
def test_an_unreadable_document_names_itself_alone(body: bytes) -> None:
    found = check(body)
    assert {found.digest: DigestInfo(len(body))} == found.named()


@pytest.mark.parametrize(
    ("name", "media_type", "body"),
    [
        (A, "application/x", b"other"),
        ("md5:" + "0" * 32, "application/x", b""),
        ("", "application/x", b""),
        (digest(b""), "a/b\r\nX: y", b""),
        (digest(b""), "", b""),
    ],
)
def test_a_wrong_digest_or_media_type_is_a_miss(name: str, media_type: str, body: bytes) -> None:
    with pytest.raises(MirrorError):
        ServedManifest.check(name, media_type, body)
