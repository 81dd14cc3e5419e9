"""A manifest is asked for once, kept within bounds, and given to those whom the registry let in."""

import asyncio
import hashlib
import json
from collections.abc import Callable

import pytest

from pantala_peer.mirror.document import Document
from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.manifests import CachedManifests
from pantala_peer.mirror.permissions import SECONDS, Permissions
from pantala_peer.mirror.ports import Challenge
from pantala_peer.mirror.resource import Repository
from pantala_protocol.registry import ManifestAnswer

REPOSITORY = Repository("r", "a")
LAYER = "sha256:" + "a" * 64


def body(number: int = 0) -> bytes:
    return json.dumps({"n": number, "config": {"digest": LAYER, "size": 5}, "layers": []}).encode()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def answer(number: int = 0) -> ManifestAnswer:
    return ManifestAnswer(digest(body(number)), "a/b", body(number))


class Asked:
    """Answers what it is told to, when it is let."""

    def __init__(self, *answers: ManifestAnswer | MirrorError) -> None:
        self.answers = list(answers)
        self.questions: list[tuple[str, str]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def manifest(self, repository: Repository, reference: str, authorization: str, order: str) -> ManifestAnswer:
        self.questions.append((reference, order or authorization))
        await self.go.wait()
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, MirrorError):
            raise found
        return found


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(
    asked: Asked, clock: Callable[[], float] | None = None, **settings: int
) -> tuple[CachedManifests, Permissions]:
    permissions = Permissions(b"k")
    return CachedManifests(asked, permissions, clock or Clock(), **settings), permissions


async def test_it_is_asked_for_once_and_grants_what_it_reaches() -> None:
    asked = Asked(answer())
    manifests, permissions = made(asked)
    for _ in range(3):
        found = await manifests.get(REPOSITORY, digest(body()), "")
        assert isinstance(found, Document)
        assert body() == found.body
    assert 1 == len(asked.questions)
    assert permissions.find(str(REPOSITORY), "", LAYER, 0.0) is not None
    assert permissions.find(str(REPOSITORY), "Bearer x", LAYER, 0.0) is None


async def test_many_who_ask_at_once_ask_once_and_one_who_leaves_leaves_alone() -> None:
    asked = Asked(answer())
    asked.go.clear()
    manifests, _ = made(asked)
    asking = [asyncio.create_task(manifests.get(REPOSITORY, digest(body()), "")) for _ in range(3)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    await asyncio.sleep(0)
    asked.go.set()
    assert [body()] * 2 == [found.body for found in await asyncio.gather(*asking[1:]) if isinstance(found, Document)]
    assert 1 == len(asked.questions)


async def test_what_is_kept_is_given_to_nobody_whom_the_registry_refuses() -> None:
    challenge = ManifestAnswer(challenges=('Basic realm="x"',))
    asked = Asked(answer(), challenge)
    manifests, _ = made(asked)
    await manifests.get(REPOSITORY, digest(body()), "Basic good")
    assert Challenge(challenge.challenges) == await manifests.get(REPOSITORY, digest(body()), "")
    assert not manifests.holds(REPOSITORY, digest(body()), "")
    assert manifests.holds(REPOSITORY, digest(body()), "Basic good")


async def test_an_order_is_asked_for_in_its_name_and_is_its_own_clients_alone() -> None:
    asked = Asked(answer())
    manifests, _ = made(asked)
    assert isinstance(await manifests.get(REPOSITORY, digest(body()), "Basic once", "ns/a"), Document)
    assert [(digest(body()), "ns/a")] == asked.questions
    assert manifests.holds(REPOSITORY, digest(body()), "Basic once")
    assert not manifests.holds(REPOSITORY, digest(body()), "")


async def test_a_registry_that_refuses_an_order_is_a_miss_and_challenges_nobody() -> None:
    manifests, _ = made(Asked(ManifestAnswer(challenges=('Basic realm="x"',))))
    with pytest.raises(MirrorError, match="pull secrets"):
        await manifests.get(REPOSITORY, digest(body()), "Basic once", "ns/a")


async def test_a_permission_that_is_over_is_asked_for_again() -> None:
    asked, clock = Asked(answer()), Clock()
    manifests, _ = made(asked, clock)
    await manifests.get(REPOSITORY, digest(body()), "")
    clock.now = SECONDS + 1
    await manifests.get(REPOSITORY, digest(body()), "")
    assert 2 == len(asked.questions)


async def test_a_tag_is_asked_for_each_time_and_grants_its_digest() -> None:
    asked = Asked(answer())
    manifests, _ = made(asked)
    for _ in range(2):
        await manifests.get(REPOSITORY, "latest", "")
    assert [("latest", "")] * 2 == asked.questions
    assert manifests.holds(REPOSITORY, digest(body()), "")


async def test_what_is_kept_is_bounded() -> None:
    asked = Asked(*(answer(number) for number in range(10)))
    manifests, _ = made(asked, memory=3 * len(body()))
    for number in range(10):
        await manifests.get(REPOSITORY, digest(body(number)), "")
    assert [7, 8, 9] == [n for n in range(10) if manifests.holds(REPOSITORY, digest(body(n)), "")]


@pytest.mark.parametrize(
    "wrong",
    [
        ManifestAnswer(),
        ManifestAnswer(digest(b"x"), "a/b", body()),
        answer(1),
        ManifestAnswer(challenges=("Basic realm=x\r\nX: y",)),
        MirrorError("no"),
    ],
)
async def test_what_is_not_that_manifest_is_a_miss(wrong: ManifestAnswer | MirrorError) -> None:
    manifests, _ = made(Asked(wrong))
    with pytest.raises(MirrorError):
        await manifests.get(REPOSITORY, digest(body()), "")
    assert not manifests.holds(REPOSITORY, digest(body()), "")


async def test_the_end_ends_what_is_under_way() -> None:
    asked = Asked(answer())
    asked.go.clear()
    manifests, _ = made(asked)
    asking = asyncio.create_task(manifests.get(REPOSITORY, digest(body()), ""))
    await asyncio.sleep(0.01)
    await manifests.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asking
