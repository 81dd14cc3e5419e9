"""Resolves image names at registries, and caches the answers for a while."""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

from cachetools import TLRUCache, TTLCache

from pantala_process.flight import SingleFlight
from pantala_protocol.image import ImageReference, ImageRepository
from pantala_supernode.registry.api import RegistryAPI
from pantala_supernode.registry.clouds.accounts import AccountChoice
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.errors import (
    ImageNotFoundError,
    InvalidManifestError,
    RateLimitedError,
    RegistryError,
    RegistryForbiddenError,
    RegistryUnauthorizedError,
)
from pantala_supernode.registry.manifest import ImageIndex, ImageManifest, ManifestDocument
from pantala_supernode.registry.platform import Platform

_MAX_DEPTH = 3
"""The most documents on the way from a tag to one platform's image: nested indexes, and the manifest."""
_MAX_NESTED = 16
"""The most indexes in an index that are read to find one of their manifests."""
_ENTRIES = 10_000
_TAG_SECONDS = 30.0
"""Seconds for which the digest of a tag is cached. For this time, a moved tag may go unnoticed."""
_MANIFEST_SECONDS = 3600.0
"""Seconds for which a manifest is cached for an account. The time is limited, because the account may lose access."""
_REFUSAL_SECONDS = 5.0
"""Seconds for which a missing image or denied access is cached, or longer if the registry demands it."""
_MANIFEST_BYTES = 64 * 1024 * 1024
_KEY = 2048
"""The approximate bytes of a document's key. An account may have some KiB."""
_T = TypeVar("_T")
_LASTING = (RegistryUnauthorizedError, RegistryForbiddenError, ImageNotFoundError, RateLimitedError)
"""Errors that are cached, because the same request would have the same answer within seconds."""


class ResolvedImage(NamedTuple):
    """The digest that an image name points to, and the image of each platform."""

    digest: str
    platforms: dict[Platform, ImageManifest]
    """The manifests of the requested platforms. A platform without an image has no entry."""


class _Key(NamedTuple):
    repository: ImageRepository
    target: str
    account: RegistryAccount


class _Tag(NamedTuple):
    digest: str
    asked: float


class RegistryClient:
    """Reads manifests with the credentials of accounts, and caches the answers for each account separately."""

    def __init__(self, api: RegistryAPI, choice: AccountChoice, clock: Callable[[], float]) -> None:
        self._api = api
        self._choice = choice
        self._clock = clock
        self._documents: TTLCache[_Key, ManifestDocument] = TTLCache(
            _MANIFEST_BYTES, _MANIFEST_SECONDS, timer=clock, getsizeof=lambda document: document.memory + _KEY
        )
        self._tags: TLRUCache[_Key, _Tag] = TLRUCache(_ENTRIES, _tag_until, timer=clock)
        self._refusals: TLRUCache[_Key, RegistryError] = TLRUCache(_ENTRIES, _refused_until, timer=clock)
        self.flight: SingleFlight[_Key, ManifestDocument] = SingleFlight()

    async def resolve(self, image: ImageReference, platforms: Iterable[Platform], keyring: Keyring) -> ResolvedImage:
        """Resolve ``image`` now, with the first account of ``keyring`` that the registry accepts.

        A tag is resolved once, so all parts of the answer belong to the same image. Raises :class:`RegistryError`.
        """
        accounts = self._choice.of(image, keyring)
        return await first_accepted(accounts, lambda account: self._resolve(image, platforms, account))

    async def manifest(
        self, repository: ImageRepository, target: str, account: RegistryAccount = ANONYMOUS
    ) -> ManifestDocument:
        """The manifest or index of ``target``, a digest or a tag. Raises :class:`RegistryError`."""
        key = _Key(repository, target, account)
        refused = self._refusals.get(key)
        if refused is not None:
            raise type(refused)(str(refused), retry_after=refused.retry_after)
        tag = self._tags.get(key)
        digest = target if ":" in target else tag.digest if tag is not None else None
        held = self._documents.get(key._replace(target=digest)) if digest is not None else None
        return held or await self.flight.share(key, lambda: self._read(key))

    async def belongs(self, image: ImageReference, target: str, account: RegistryAccount) -> bool:
        """True if the manifest ``target`` is the image, or its index lists it, or an index in this index does so."""
        if target == image.digest:
            return True
        content = (await self.manifest(image.place, image.digest, account)).parse(str(image))
        if isinstance(content, ImageManifest):
            return False
        if content.lists(target):
            return True
        for child in [each for each in content.children if each.nested][:_MAX_NESTED]:
            try:
                inner = (await self.manifest(image.place, child.digest, account)).parse(str(image))
            except ImageNotFoundError:  # an image for one platform only may lack the others
                continue
            if isinstance(inner, ImageIndex) and inner.lists(target):
                return True
        return False

    async def _resolve(
        self, image: ImageReference, platforms: Iterable[Platform], account: RegistryAccount
    ) -> ResolvedImage:
        repository = image.place
        self._tags.pop(_Key(repository, image.target, account), None)
        digest = (await self.manifest(repository, image.target, account)).digest
        pinned = image.pinned(digest)
        found = {platform: await self._find(pinned, platform, account) for platform in platforms}
        return ResolvedImage(digest, {platform: manifest for platform, manifest in found.items() if manifest})

    async def _find(self, image: ImageReference, platform: Platform, account: RegistryAccount) -> ImageManifest | None:
        repository = image.place
        document = await self.manifest(repository, image.target, account)
        for _ in range(_MAX_DEPTH):
            content = document.parse(str(image))
            if isinstance(content, ImageManifest):
                return content
            entry = content.choose(platform)
            if entry is None:
                return None
            document = await self.manifest(repository, entry.digest, account)
            if len(document.body) != entry.size:
                raise InvalidManifestError.of(str(image), f"its index states a wrong size for {entry.digest}")
        raise InvalidManifestError.of(str(image), f"its indexes are nested more than {_MAX_DEPTH} deep")

    async def _read(self, key: _Key) -> ManifestDocument:
        begun = self._clock()
        try:
            document = await self._ask(key)
        except _LASTING as error:
            self._refusals[key] = error
            raise
        if ":" not in key.target:
            self._tags[key] = _Tag(document.digest, begun)
        self._documents[key._replace(target=document.digest)] = document
        return document

    async def _ask(self, key: _Key) -> ManifestDocument:
        """Read a document. For a tag, first request its digest, because the document may be in the cache."""
        repository, target, account = key
        digest = None if ":" in target else await self._api.digest(repository, target, account)
        if digest:
            return await self.manifest(repository, digest, account)
        return await self._api.manifest(repository, target, account)


async def first_accepted(
    accounts: Iterable[RegistryAccount], attempt: Callable[[RegistryAccount], Awaitable[_T]]
) -> _T:
    """The result of ``attempt`` for the first account that the registry accepts.

    Some registries answer 404 to an account that may not read a repository. So the next account is tried after that,
    too. If no account is accepted, raises the first error "not found", else the last account's error.
    """
    refusals: list[RegistryError] = []
    for account in accounts:
        try:
            return await attempt(account)
        except (RegistryUnauthorizedError, RegistryForbiddenError, ImageNotFoundError) as error:
            refusals.append(error)
    if not refusals:
        raise ValueError("no account was given for the request to the registry")
    raise next((each for each in refusals if isinstance(each, ImageNotFoundError)), refusals[-1])


def _tag_until(_: _Key, tag: _Tag, __: float) -> float:
    return tag.asked + _TAG_SECONDS


def _refused_until(_: _Key, error: RegistryError, now: float) -> float:
    return now + max(error.retry_after or 0.0, _REFUSAL_SECONDS)
