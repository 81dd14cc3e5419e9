"""What a tag means, and what an image is made of: asked of registries, and remembered for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pantala_protocol.image import ImageReference
from pantala_protocol.images import ImageBlob
from pantala_supernode.registry.api import RegistryAPI
from pantala_supernode.registry.cache import Cache
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.document import ManifestDocument
from pantala_supernode.registry.endpoint import ImageRepository, RegistryEndpoints
from pantala_supernode.registry.errors import (
    ImageNotFoundError,
    InvalidManifestError,
    PlatformMissingError,
    RateLimitedError,
    RegistryError,
    RegistryForbiddenError,
    RegistryUnauthorizedError,
)
from pantala_supernode.registry.flight import Flight
from pantala_supernode.registry.manifest import ImageIndex, ImageManifest
from pantala_supernode.registry.platform import Platform
from pantala_supernode.tasks.copy import FileSource

_MAX_DEPTH = 3
"""Manifests and indexes on the way from a tag to an image."""
_ENTRIES = 10_000
_DOCUMENT_BYTES = 512
"""That a document costs beside its body."""
_KEPT = (RegistryUnauthorizedError, RegistryForbiddenError, ImageNotFoundError, RateLimitedError)
"""Refusals that would be the same a moment later."""


@dataclass(frozen=True)
class Freshness:
    """How long answers are believed, in seconds, and how many are kept."""

    tag: float = 30.0
    """What a tag means: as long may a moved tag go unnoticed."""
    manifest: float = 3600.0
    """Of a digest it never changes; but whether the registry still gives it to an account may."""
    refusal: float = 5.0
    """That there is no such image, or not for this account; longer if the registry asks for that."""
    bytes: int = 64 * 1024 * 1024
    """Of manifests in memory."""


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """What an image is, for one platform."""

    image: ImageReference
    """Pinned: what containerd shall be told to pull."""
    platform: Platform
    manifest: str
    """The digest of the platform's own manifest; that of ``image`` if there is no index."""
    media_type: str
    """Of that manifest."""
    config: ImageBlob
    layers: tuple[ImageBlob, ...]
    account: RegistryAccount = ANONYMOUS
    """Whose credentials the registry accepted. Never shown."""

    @property
    def blobs(self) -> tuple[ImageBlob, ...]:
        """Config and layers, each once."""
        return ImageManifest(self.media_type, self.config, self.layers).blobs

    @property
    def bytes(self) -> int:
        """Of all blobs, as the registry holds them."""
        return sum(blob.size for blob in self.blobs)


class _Key(NamedTuple):
    repository: ImageRepository
    target: str
    account: RegistryAccount


class RegistryClient:
    """Reads registries for any account. Answers are kept apart by account: what one may see, another may not."""

    def __init__(
        self,
        api: RegistryAPI,
        endpoints: RegistryEndpoints,
        clock: Callable[[], float],
        freshness: Freshness | None = None,
    ) -> None:
        self._api = api
        self._endpoints = endpoints
        self._clock = clock
        self._freshness = freshness or Freshness()
        self._documents: Cache[_Key, ManifestDocument] = Cache(
            self._freshness.bytes, lambda document: len(document.body) + _DOCUMENT_BYTES
        )
        self._tags: Cache[_Key, str] = Cache(_ENTRIES)
        self._refusals: Cache[_Key, RegistryError] = Cache(_ENTRIES)
        self._flight: Flight[_Key, ManifestDocument] = Flight()

    async def close(self) -> None:
        """Stop asking."""
        await self._flight.close()

    async def resolve(
        self, image: ImageReference, platform: Platform, keyring: Keyring, *, fresh: bool = False
    ) -> ResolvedImage:
        """What ``image`` is for a node of ``platform``, asked with each fitting account until one is accepted.

        A tag is asked for once, so that all of the answer is of one image; ``fresh``: now, whatever was remembered.
        Raises :class:`RegistryError`.
        """
        refused: RegistryError = RegistryUnauthorizedError.of(str(image), "there is nobody to ask as")
        for account in keyring.find(image.name) or (ANONYMOUS,):
            try:
                return await self._resolve(image, platform, account, fresh=fresh)
            except (RegistryUnauthorizedError, RegistryForbiddenError) as error:
                refused = error
        raise refused

    async def resolve_all(
        self, image: ImageReference, platforms: Iterable[Platform], keyring: Keyring
    ) -> tuple[str, dict[Platform, ResolvedImage]]:
        """What ``image`` names now, and what it is for each platform that it is made for.

        The registry is asked, whatever was remembered of a tag; all of the answer is of one image. Raises
        :class:`RegistryError`.
        """
        refused: RegistryError = RegistryUnauthorizedError.of(str(image), "there is nobody to ask as")
        for account in keyring.find(image.name) or (ANONYMOUS,):
            try:
                return await self._resolve_all(image, platforms, account)
            except (RegistryUnauthorizedError, RegistryForbiddenError) as error:
                refused = error
        raise refused

    async def manifest(
        self, repository: ImageRepository, target: str, account: RegistryAccount = ANONYMOUS
    ) -> ManifestDocument:
        """The manifest or index that ``target`` (a digest or a tag) names. Raises :class:`RegistryError`."""
        key, now = _Key(repository, target, account), self._clock()
        refused = self._refusals.get(key, now)
        if refused is not None:
            raise type(refused)(str(refused), retry_after=refused.retry_after)
        digest = target if ":" in target else self._tags.get(key, now)
        held = self._documents.get(key._replace(target=digest), now) if digest else None
        return held or await self._flight.share(key, lambda: self._read(key))

    def blob(self, repository: ImageRepository, digest: str, account: RegistryAccount = ANONYMOUS) -> FileSource:
        """How to fetch a blob as a task. Raises RegistryError, and ValueError for what is no digest."""
        header = account.authorization
        return FileSource(self._endpoints.blob(repository, digest), {"Authorization": header} if header else {}, digest)

    async def _resolve_all(
        self, image: ImageReference, platforms: Iterable[Platform], account: RegistryAccount
    ) -> tuple[str, dict[Platform, ResolvedImage]]:
        repository = ImageRepository(image.registry, image.repository)
        self._tags.drop(_Key(repository, image.target, account))
        pinned = image.pinned((await self.manifest(repository, image.target, account)).digest)
        found: dict[Platform, ResolvedImage] = {}
        for platform in platforms:
            with contextlib.suppress(PlatformMissingError):
                found[platform] = await self._resolve(pinned, platform, account, fresh=False)
        return pinned.digest, found

    async def _resolve(
        self, image: ImageReference, platform: Platform, account: RegistryAccount, *, fresh: bool
    ) -> ResolvedImage:
        repository = ImageRepository(image.registry, image.repository)
        if fresh:
            self._tags.drop(_Key(repository, image.target, account))
        top = found = await self.manifest(repository, image.target, account)
        for _ in range(_MAX_DEPTH):
            content = found.parse(str(image))
            if isinstance(content, ImageManifest):
                return ResolvedImage(image.pinned(top.digest), platform, found.digest, *content, account)
            found = await self._child(repository, content, platform, account, image)
        raise InvalidManifestError.of(str(image), f"it has indexes in indexes, more than {_MAX_DEPTH}")

    async def _child(
        self,
        repository: ImageRepository,
        index: ImageIndex,
        platform: Platform,
        account: RegistryAccount,
        image: ImageReference,
    ) -> ManifestDocument:
        child = index.choose(platform)
        if child is None:
            offered = sorted({str(other.platform) for other in index.children if other.platform is not None})
            raise PlatformMissingError.of(
                str(image), f"it is not made for {platform}, only for {', '.join(offered)[:200] or 'none'}"
            )
        document = await self.manifest(repository, child.digest, account)
        if len(document.body) != child.size:
            raise InvalidManifestError.of(str(image), f"its index gives a wrong size for {child.digest}")
        return document

    async def _read(self, key: _Key) -> ManifestDocument:
        begun = self._clock()
        try:
            document = await self._ask(key)
        except _KEPT as error:
            seconds = max(error.retry_after or 0.0, self._freshness.refusal)
            self._refusals.put(key, error, self._clock() + seconds)
            raise
        if ":" not in key.target:
            self._tags.put(key, document.digest, begun + self._freshness.tag)
        self._documents.put(key._replace(target=document.digest), document, begun + self._freshness.manifest)
        return document

    async def _ask(self, key: _Key) -> ManifestDocument:
        """Ask for the document; if it is a tag's, first whether the one that is there is still the one."""
        repository, target, account = key
        digest = "" if ":" in target else await self._api.digest(repository, target, account)
        if digest:
            return await self.manifest(repository, digest, account)
        return await self._api.manifest(repository, target, account)
