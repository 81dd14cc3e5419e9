"""How questions for manifests end: given, challenged, refused, or wrongly put."""

from __future__ import annotations

import pytest

from pantala_protocol.registry import ManifestAnswer, Resolve
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.images.accounts import Accounts
from pantala_supernode.images.manifests import Manifests, Outcome
from pantala_supernode.images.orders import Images
from pantala_supernode.registry.credentials import ANONYMOUS, Credentials
from pantala_supernode.registry.document import Document
from pantala_supernode.registry.endpoint import Repository
from pantala_supernode.registry.errors import RegistryError, UnauthorizedError, UnreachableError
from pantala_supernode.registry.relay import Verdict

DIGEST = "sha256:" + "a" * 64
REPOSITORY = Repository("registry.example", "team/app")
DOCUMENT = Document(DIGEST, "application/vnd.oci.image.manifest.v1+json", b"{}")
NO = Verdict(allowed=False, challenges=('Basic realm="x"',))


class Registry:
    """Says yes or no as scripted, to the relay and to the client."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.errors: dict[Credentials, RegistryError] = {}
        self.fresh: list[bool] = []
        self.asked: list[Credentials] = []

    async def check(self, _repository: Repository, _reference: str, _shown: str, *, fresh: bool = False) -> Verdict:
        self.fresh.append(fresh)
        return self.verdicts.pop(0)

    async def manifest(self, _repository: Repository, _target: str, account: Credentials) -> Document:
        self.asked.append(account)
        if account in self.errors:
            raise self.errors[account]
        return DOCUMENT


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def manifests(registry: Registry) -> Manifests:
    return Manifests(registry, registry, Images(), Accounts(), clock=lambda: 0.0)  # type: ignore[arg-type]


async def test_who_was_let_in_and_is_refused_now_is_asked_anew_and_gets_the_challenge(
    manifests: Manifests, registry: Registry
) -> None:
    registry.verdicts = [Verdict(allowed=True), NO]
    registry.errors = {Credentials.read("Bearer old"): UnauthorizedError.of("it", "no")}
    assert ManifestAnswer(challenges=NO.challenges) == await manifests.shown(REPOSITORY, DIGEST, "Bearer old")
    assert ([False, True], {Outcome.CHALLENGED: 1}) == (registry.fresh, manifests.outcomes)


async def test_what_everybody_may_read_comes_though_who_asks_shows_something_odd(
    manifests: Manifests, registry: Registry
) -> None:
    registry.verdicts = [Verdict(allowed=True), Verdict(allowed=True)]
    registry.errors = {Credentials.read("Bearer old"): UnauthorizedError.of("it", "no")}
    assert DIGEST == (await manifests.shown(REPOSITORY, DIGEST, "Bearer old")).digest
    assert ANONYMOUS == registry.asked[-1]
    registry.verdicts = [Verdict(allowed=True)]
    assert DIGEST == (await manifests.shown(REPOSITORY, "1", "Negotiate something")).digest
    assert ANONYMOUS == registry.asked[-1]


async def test_what_is_held_is_not_read_again_but_only_given_to_who_is_let_in(
    manifests: Manifests, registry: Registry
) -> None:
    registry.verdicts = [Verdict(allowed=True), Verdict(allowed=True), NO]
    for _ in range(2):
        assert b"{}" == (await manifests.shown(REPOSITORY, DIGEST, "")).body
    assert 1 == len(registry.asked)
    assert b"" == (await manifests.shown(REPOSITORY, DIGEST, "")).body


async def test_a_registry_that_is_away_is_a_failure_and_no_challenge(manifests: Manifests, registry: Registry) -> None:
    registry.verdicts = [Verdict(allowed=True)]
    registry.errors = {ANONYMOUS: UnreachableError.of("it", "is away")}
    with pytest.raises(UnreachableError):
        await manifests.shown(REPOSITORY, DIGEST, "")
    assert {Outcome.FAILED: 1} == manifests.outcomes


@pytest.mark.parametrize(
    ("repository", "reference"),
    [
        (Repository("http://x/", "team/app"), DIGEST),
        (Repository("registry.example", "../app"), DIGEST),
        (REPOSITORY, "sha256:0"),
        (REPOSITORY, "../1"),
    ],
)
async def test_what_no_registry_can_have_is_asked_of_none(
    manifests: Manifests, registry: Registry, repository: Repository, reference: str
) -> None:
    with pytest.raises(InvalidValueError):
        await manifests.shown(repository, reference, "")
    with pytest.raises(InvalidValueError):
        await manifests.ordered("n1", "ns/app", repository, reference)
    assert ([], {}) == (registry.fresh, manifests.outcomes)


async def test_the_operator_is_told_what_is_wrong_with_its_question(manifests: Manifests) -> None:
    with pytest.raises(InvalidValueError):
        await manifests.resolve(Resolve("registry.example/team/app:1", ("linux",)))
    found = await manifests.resolve(Resolve("registry.example/Team:1", ("linux/amd64",)))
    assert ("InvalidImage", "") == (found.reason, found.digest)
    found = await manifests.resolve(Resolve("registry.example/team/app:1", ("linux/amd64",), ("{",)))
    assert ("Unauthorized", "") == (found.reason, found.digest)
    assert "registry.example/team/app" in found.message
