"""The outcomes of requests for manifests."""

import hashlib
import json

import pytest
from structlog.testing import capture_logs

from pantala_protocol import image
from pantala_protocol.image import ImageRepository
from pantala_protocol.images import PullOrder, WantedImage
from pantala_protocol.registry import ManifestAnswer, Resolve
from pantala_protocol.statement import Statement
from pantala_supernode.errors import ForbiddenError, InvalidValueError
from pantala_supernode.images.manifests import ManifestOutcome, ManifestService
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.registry.access import RegistryVerdict
from pantala_supernode.registry.client import RegistryClient
from pantala_supernode.registry.credentials import ANONYMOUS, RegistryAccount
from pantala_supernode.registry.errors import (
    ImageNotFoundError,
    RegistryError,
    RegistryUnauthorizedError,
    RegistryUnreachableError,
)
from pantala_supernode.registry.manifest import OCI_INDEX, OCI_MANIFEST, ManifestDocument
from tests.support.fake_registry import no_cloud

DIGEST = "sha256:" + "a" * 64
REPOSITORY = ImageRepository("registry.example", "team/app")
DOCUMENT = ManifestDocument(DIGEST, "application/vnd.oci.image.manifest.v1+json", b"{}")
NO = RegistryVerdict(allowed=False, challenges=('Basic realm="x"',))


class Registry(RegistryClient):
    """Says yes or no as scripted, to the relay and to the client."""

    def __init__(self) -> None:
        super().__init__(None, no_cloud(), lambda: 0.0)  # type: ignore[arg-type]
        self.verdicts: list[RegistryVerdict] = []
        self.errors: dict[RegistryAccount, RegistryError] = {}
        self.fresh: list[bool] = []
        self.asked: list[RegistryAccount] = []
        self.documents: dict[str, ManifestDocument] = {}
        self.missing: set[str] = set()

    async def check(
        self, _repository: ImageRepository, _reference: str, _shown: str, *, fresh: bool = False
    ) -> RegistryVerdict:
        self.fresh.append(fresh)
        return self.verdicts.pop(0)

    async def manifest(
        self, repository: ImageRepository, target: str, account: RegistryAccount = ANONYMOUS
    ) -> ManifestDocument:
        self.asked.append(account)
        if account in self.errors:
            raise self.errors[account]
        if target in self.missing:
            raise ImageNotFoundError.of(f"{repository}@{target}", "it is missing")
        return self.documents.get(target, DOCUMENT)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def stated() -> StatedImages:
    return StatedImages()


@pytest.fixture
def manifests(registry: Registry, stated: StatedImages) -> ManifestService:
    return ManifestService(registry, registry, stated, OrderAccounts(no_cloud()), clock=lambda: 0.0)  # type: ignore[arg-type]


async def test_a_client_that_lost_access_receives_the_challenge(manifests: ManifestService, registry: Registry) -> None:
    registry.verdicts = [RegistryVerdict(allowed=True), NO]
    registry.errors = {RegistryAccount.read("Bearer old"): RegistryUnauthorizedError.of("it", "no")}
    assert ManifestAnswer(challenges=NO.challenges) == await manifests.shown(REPOSITORY, DIGEST, "Bearer old")
    assert ([False, True], {ManifestOutcome.CHALLENGED: 1}) == (registry.fresh, manifests.outcomes)


async def test_public_images_ignore_unknown_authorization(manifests: ManifestService, registry: Registry) -> None:
    registry.verdicts = [RegistryVerdict(allowed=True), RegistryVerdict(allowed=True)]
    registry.errors = {RegistryAccount.read("Bearer old"): RegistryUnauthorizedError.of("it", "no")}
    assert DIGEST == (await manifests.shown(REPOSITORY, DIGEST, "Bearer old")).digest
    assert ANONYMOUS == registry.asked[-1]
    registry.verdicts = [RegistryVerdict(allowed=True)]
    assert DIGEST == (await manifests.shown(REPOSITORY, "1", "Negotiate something")).digest
    assert ANONYMOUS == registry.asked[-1]


async def test_a_cached_manifest_is_for_allowed_clients_only(manifests: ManifestService, registry: Registry) -> None:
    registry.verdicts = [RegistryVerdict(allowed=True), RegistryVerdict(allowed=True), NO]
    for _ in range(2):
        assert b"{}" == (await manifests.shown(REPOSITORY, DIGEST, "")).body
    assert 1 == len(registry.asked)
    assert b"" == (await manifests.shown(REPOSITORY, DIGEST, "")).body


async def test_an_unreachable_registry_is_a_failure(manifests: ManifestService, registry: Registry) -> None:
    registry.verdicts = [RegistryVerdict(allowed=True)]
    registry.errors = {ANONYMOUS: RegistryUnreachableError.of("it", "is away")}
    with pytest.raises(RegistryUnreachableError):
        await manifests.shown(REPOSITORY, DIGEST, "")
    assert {ManifestOutcome.FAILED: 1} == manifests.outcomes


@pytest.mark.parametrize(
    ("repository", "reference"),
    [
        (ImageRepository("http://x/", "team/app"), DIGEST),
        (ImageRepository("registry.example", "../app"), DIGEST),
        (REPOSITORY, "sha256:0"),
        (REPOSITORY, "../1"),
    ],
)
async def test_invalid_requests_reach_no_registry(
    manifests: ManifestService, registry: Registry, repository: ImageRepository, reference: str
) -> None:
    with pytest.raises(InvalidValueError):
        await manifests.shown(repository, reference, "")
    with pytest.raises(InvalidValueError):
        await manifests.ordered("n1", "ns/app", repository, reference)
    assert ([], {}) == (registry.fresh, manifests.outcomes)


async def test_the_operator_learns_why_its_request_is_invalid(manifests: ManifestService) -> None:
    with pytest.raises(InvalidValueError):
        await manifests.resolve(Resolve("registry.example/team/app:1", ("linux",)))
    found = await manifests.resolve(Resolve("registry.example/Team:1", ("linux/amd64",)))
    assert ("InvalidImage", "") == (found.reason, found.digest)
    found = await manifests.resolve(Resolve("registry.example/team/app:1", ("linux/amd64",), ("{",)))
    assert ("Unauthorized", "") == (found.reason, found.digest)
    assert "registry.example/team/app" in found.message


def index(*children: str, of: str = OCI_MANIFEST) -> ManifestDocument:
    """An index of children with this media type."""
    listed = [{"digest": digest, "size": 1, "mediaType": of} for digest in children]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()
    return ManifestDocument(f"sha256:{hashlib.sha256(body).hexdigest()}", OCI_INDEX, body)


async def test_a_node_reads_all_manifests_of_its_order_and_no_other(
    manifests: ManifestService, registry: Registry, stated: StatedImages
) -> None:
    other, inner = "sha256:" + "b" * 64, index(DIGEST)
    missing = "sha256:" + "d" * 64
    top = index(missing, inner.digest, of=OCI_INDEX)
    registry.missing = {missing}
    registry.documents = {top.digest: top, inner.digest: inner}
    order = WantedImage("ns/app", f"{REPOSITORY}@{top.digest}", orders={"n1": PullOrder("run")})
    stated.take(Statement(1, images=(order,)))
    for reference in (top.digest, inner.digest, DIGEST):
        assert (await manifests.ordered("n1", "ns/app", REPOSITORY, reference)).body
    with pytest.raises(ForbiddenError, match="does not belong"):
        await manifests.ordered("n1", "ns/app", REPOSITORY, other)


def test_h7_former_pull_secrets_are_forgotten(stated: StatedImages) -> None:
    accounts = OrderAccounts(no_cloud())
    host = {"auths": {REPOSITORY.registry: {"username": "host", "password": "p"}}}
    team = {"auths": {str(REPOSITORY): {"username": "team", "password": "p"}}}
    many = {"auths": {f"*{number}.example": {"username": "u"} for number in range(2000)}}
    order = WantedImage("ns/app", f"{REPOSITORY}:1", credentials=(json.dumps(host), json.dumps(team)))
    reference = image.parse(order.image)
    usual = accounts.of(order, reference)
    assert ["team", "host"] == [each.username for each in usual]
    accounts.accept(order, reference, usual[1])
    stated.take(Statement(1, images=(order,)))
    accounts.keep(stated.credentials)
    assert usual[::-1] == accounts.of(order, reference)
    stated.take(Statement(2))
    accounts.keep(stated.credentials)
    assert usual == accounts.of(order, reference)
    hostile = WantedImage("ns/app", order.image, credentials=(json.dumps(many), json.dumps(many)))
    with capture_logs() as logged:
        for _ in range(2):
            assert (ANONYMOUS,) == accounts.of(hostile, reference)
    assert [order.image] == [each["image"] for each in logged if "too many entries" in each["event"]]
