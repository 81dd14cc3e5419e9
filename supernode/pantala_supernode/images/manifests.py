"""Serves manifests to nodes, and resolves images for the operator, with the credentials of each request."""

from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from operator import attrgetter
from typing import Final

from cachetools import TTLCache

from pantala_protocol import digest as digests
from pantala_protocol import image
from pantala_protocol.image import ImageReference, ImageRepository
from pantala_protocol.images import WantedImage
from pantala_protocol.registry import ManifestAnswer, Resolve, Resolved
from pantala_supernode.errors import ForbiddenError, InvalidValueError
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.registry import platform as platforms
from pantala_supernode.registry.access import AccessCheck
from pantala_supernode.registry.client import RegistryClient, first_accepted
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.errors import (
    ImageNotFoundError,
    RegistryError,
    RegistryForbiddenError,
    RegistryUnauthorizedError,
)
from pantala_supernode.registry.manifest import ManifestDocument

_INVALID: Final = "InvalidImage"
_SECRET_INVALID: Final = RegistryUnauthorizedError.image_reason
_HELD_BYTES: Final = 64 * 1024 * 1024
_HELD_SECONDS: Final = 3600.0


class ManifestOutcome(StrEnum):
    """The outcome of a node's request for a manifest."""

    GIVEN = "given"
    CHALLENGED = "challenged"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    FAILED = "failed"


class ManifestService:
    """Answers requests of peers and of the operator about manifests. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        client: RegistryClient,
        access: AccessCheck,
        images: StatedImages,
        accounts: OrderAccounts,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.outcomes: Counter[ManifestOutcome] = Counter()
        """Counts the requests for manifests since the start, by outcome."""
        self._client = client
        self._access = access
        self._images = images
        self._accounts = accounts
        self._held: TTLCache[tuple[ImageRepository, str], ManifestDocument] = TTLCache(
            _HELD_BYTES, _HELD_SECONDS, timer=clock, getsizeof=attrgetter("memory")
        )

    async def shown(self, repository: ImageRepository, reference: str, authorization: str) -> ManifestAnswer:
        """A manifest for a client with the header ``authorization`` (empty: anonymous), or the registry's challenges.

        Raises :class:`pantala_supernode.registry.errors.RegistryError` if the registry neither allows nor refuses.
        """
        _check(repository, reference)
        return await self._counted(self._shown(repository, reference, authorization))

    async def ordered(self, node: str, key: str, repository: ImageRepository, reference: str) -> ManifestAnswer:
        """A manifest of an image in a node's order, read with the pull secrets of that order.

        ``key`` is the key of the ordered image. Raises ``RegistryError``, and
        :class:`pantala_supernode.errors.ForbiddenError` for a manifest of any other image.
        """
        _check(repository, reference)
        return await self._counted(self._ordered(node, key, repository, reference))

    async def resolve(self, asked: Resolve) -> Resolved:
        """Ask the registry for an image's current digest. Raises :class:`InvalidValueError` for an invalid platform."""
        try:
            wanted = {text: platforms.parse(text) for text in asked.platforms}
        except ValueError as error:
            raise InvalidValueError(str(error)) from None
        try:
            reference = image.parse(asked.image)
        except ValueError as error:
            return Resolved(reason=_INVALID, message=str(error))
        try:
            keyring = Keyring.read(*asked.credentials)
        except ValueError as error:
            return Resolved(reason=_SECRET_INVALID, message=f"{reference}: {error}")
        try:
            found = await self._client.resolve(reference, wanted.values(), keyring)
        except RegistryError as error:
            return Resolved(reason=error.image_reason, message=str(error))
        images = found.platforms
        blobs = {text: images[platform].blobs for text, platform in wanted.items() if platform in images}
        return Resolved(digest=found.digest, platforms=blobs)

    async def _shown(self, repository: ImageRepository, reference: str, authorization: str) -> ManifestAnswer:
        verdict = await self._access.check(repository, reference, authorization)
        if verdict.allowed:
            try:
                return _given(await self._read(repository, reference, _account(authorization)))
            except (RegistryUnauthorizedError, RegistryForbiddenError):  # the cached right is out of date
                verdict = await self._access.check(repository, reference, authorization, fresh=True)
                if verdict.allowed:
                    return _given(await self._read(repository, reference, ANONYMOUS))
        return ManifestAnswer(challenges=verdict.challenges)

    async def _read(self, repository: ImageRepository, reference: str, account: RegistryAccount) -> ManifestDocument:
        """Read a manifest from the cache or the registry. The caller has checked that the client may read it."""
        held = self._held.get((repository, reference))
        if held is not None:
            return held
        document = await self._client.manifest(repository, reference, account)
        self._held[repository, document.digest] = document
        return document

    async def _ordered(self, node: str, key: str, repository: ImageRepository, reference: str) -> ManifestAnswer:
        wanted, ordered = self._images.ordered(node, key, str(repository))

        async def read(account: RegistryAccount) -> ManifestAnswer:
            found = await self._of_order(wanted, ordered, reference, account)
            self._accounts.accept(wanted, ordered, account)
            return _given(found)

        try:
            return await first_accepted(self._accounts.of(wanted, ordered), read)
        except (RegistryUnauthorizedError, RegistryForbiddenError) as error:
            raise ForbiddenError(str(error)) from None

    async def _of_order(
        self, wanted: WantedImage, ordered: ImageReference, reference: str, account: RegistryAccount
    ) -> ManifestDocument:
        """The manifest ``reference``. Raises :class:`ForbiddenError` if it is not the ordered image or in its index."""
        if await self._client.belongs(ordered, reference, account):
            return await self._client.manifest(ordered.place, reference, account)
        raise ForbiddenError(f"{reference} does not belong to {wanted.image}, the image of the order {wanted.key}")

    async def _counted(self, asked: Awaitable[ManifestAnswer]) -> ManifestAnswer:
        try:
            answer = await asked
        except ImageNotFoundError:
            answer = ManifestAnswer()
        except ForbiddenError:
            self.outcomes[ManifestOutcome.FORBIDDEN] += 1
            raise
        except RegistryError:
            self.outcomes[ManifestOutcome.FAILED] += 1
            raise
        outcome = ManifestOutcome.CHALLENGED if answer.challenges else ManifestOutcome.NOT_FOUND
        self.outcomes[ManifestOutcome.GIVEN if answer.digest else outcome] += 1
        return answer


def _given(document: ManifestDocument) -> ManifestAnswer:
    return ManifestAnswer(document.digest, document.media_type, document.body)


def _account(authorization: str) -> RegistryAccount:
    """The account in an ``Authorization`` header. A header that cannot be read counts as anonymous."""
    try:
        return RegistryAccount.read(authorization)
    except ValueError:
        return ANONYMOUS


def _check(repository: ImageRepository, reference: str) -> None:
    try:
        image.check_registry(repository.registry)
        image.check_repository(repository.name)
        if ":" in reference:
            digests.parse(reference)
        else:
            image.check_tag(reference)
    except ValueError as error:
        raise InvalidValueError(str(error)) from None
