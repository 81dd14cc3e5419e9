"""Requests manifests and indexes once, caches them, and serves them only to clients that the registry admits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import msgspec
from cachetools import LRUCache, TTLCache
from msgspec import Meta

from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.rights import ReadRights
from pantala_peer.mirror.supernode import SupernodeRegistries
from pantala_process.flight import SingleFlight
from pantala_protocol import digest as digests
from pantala_protocol.image import ImageRepository
from pantala_protocol.registry import MAX_MANIFEST, ManifestAnswer
from pantala_protocol.rules import foreign, headers
from pantala_protocol.rules.fields import Id
from pantala_protocol.rules.rights import Subject

_MEMORY = 64 * 1024 * 1024
"""The most bytes of cached manifests. The manifests of about ten thousand images fit."""
_NAMED, _NAMED_SECONDS = 100_000, 3600.0
"""How many digests from manifests are cached, and for how many seconds. A slow pull of many layers may take an hour."""
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII)


class DigestInfo(NamedTuple):
    """The data about one digest in a manifest. They give no right to read the content."""

    size: int
    """The size in bytes."""
    is_config: bool = False
    """True for an image's configuration: a small blob that containerd fetches before the layers."""


@dataclass(frozen=True, slots=True)
class ServedManifest:
    """A manifest or an index, with unchanged bytes."""

    digest: str
    """The verified digest of ``body``."""
    media_type: str
    body: bytes = field(repr=False)

    @classmethod
    def check(cls, digest: str, media_type: str, body: bytes) -> ServedManifest:
        """Verify the digest. Raises :class:`MirrorError`."""
        try:
            expected = digests.parse(digest)
        except ValueError as error:
            raise MirrorError(str(error)) from None
        running = digests.new(expected.algorithm)
        running.update(body)
        if len(body) > MAX_MANIFEST or running.hexdigest() != expected.hex or not _MEDIA_TYPE.fullmatch(media_type):
            raise MirrorError(f"the supernode sent a wrong manifest for {digest}; the mirror does not serve it")
        return cls(digest, media_type, body)

    def named(self) -> dict[str, DigestInfo]:
        """The manifest's own digest and all digests in it. An invalid manifest has only its own digest."""
        found = {self.digest: DigestInfo(len(self.body))}
        try:
            content = foreign.read(self.body, _Content)
        except ValueError:
            return found
        for descriptor in [*(content.manifests or ()), *(content.layers or ())]:
            found[descriptor.digest] = DigestInfo(descriptor.size)
        if content.config is not None:
            found[content.config.digest] = DigestInfo(content.config.size, is_config=True)
        return found


class _Descriptor(msgspec.Struct):
    digest: Id
    size: Annotated[int, Meta(ge=0, lt=1 << 53)]


class _Content(msgspec.Struct):
    manifests: list[_Descriptor] | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None


@dataclass(frozen=True, slots=True)
class RegistryChallenge:
    """The answer of a registry that requires authentication."""

    values: tuple[str, ...]
    """The registry's ``WWW-Authenticate`` headers, at least one, as in :mod:`pantala_protocol.rules.headers`."""


class _Question(NamedTuple):
    repository: ImageRepository
    reference: str
    authorization: str
    order: str = ""


class CachedManifests:
    """Caches manifests and the digests in them. ``clock`` returns monotonic seconds."""

    def __init__(
        self, supernode: SupernodeRegistries, rights: ReadRights, clock: Callable[[], float], *, memory: int = _MEMORY
    ) -> None:
        self._supernode = supernode
        self._rights = rights
        self._named: TTLCache[tuple[Subject, str], DigestInfo] = TTLCache(_NAMED, _NAMED_SECONDS, timer=clock)
        self._kept: LRUCache[str, ServedManifest] = LRUCache(memory, getsizeof=lambda found: len(found.body))
        self._flight: SingleFlight[_Question, ServedManifest | RegistryChallenge] = SingleFlight()

    def holds(self, repository: ImageRepository, reference: str, authorization: str) -> bool:
        """True if the manifest is cached and the client may read it, so that :meth:`get` returns at once."""
        return self._find(_Question(repository, reference, authorization)) is not None

    def info(self, client: Subject, digest: str) -> DigestInfo | None:
        """The data about a digest in a manifest that this client has read. ``None`` if no manifest has the digest."""
        return self._named.get((client, digest))

    async def get(
        self, repository: ImageRepository, reference: str, authorization: str, order: str = ""
    ) -> ServedManifest | RegistryChallenge:
        """The manifest with a digest or tag, for the client with ``authorization``. Raises :class:`MirrorError`.

        ``order`` is the key of the order whose pull sends the request. The supernode then uses the order's pull secrets
        at the registry, and ``authorization`` only identifies the client. If the caller is cancelled, the request
        continues for the next client.
        """
        question = _Question(repository, reference, authorization, order)
        return self._find(question) or await self._flight.share(question, lambda: self._ask(question))

    async def aclose(self) -> None:
        await self._flight.close()

    def _find(self, question: _Question) -> ServedManifest | None:
        repository, reference, authorization, _ = question
        kept = self._kept.get(reference)
        client = self._rights.client(str(repository), authorization)
        return kept if kept is not None and self._rights.has_manifest(client, reference) else None

    async def _ask(self, question: _Question) -> ServedManifest | RegistryChallenge:
        repository, reference, authorization, order = question
        answer = await self._supernode.manifest(repository, reference, "" if order else authorization, order)
        if not answer.body:
            return _challenge(answer, question)
        if ":" in reference and answer.digest != reference:
            raise MirrorError(f"the supernode sent another manifest for {repository}@{reference}")
        found = ServedManifest.check(answer.digest, answer.media_type, answer.body)
        if len(found.body) <= self._kept.maxsize:
            self._kept[found.digest] = found
        client = self._rights.client(str(repository), authorization)
        self._rights.grant_manifest(client, found.digest)
        for digest, info in found.named().items():
            self._named[client, digest] = info
        return found


def _challenge(answer: ManifestAnswer, question: _Question) -> RegistryChallenge:
    if question.order:
        raise MirrorError(f"the registry rejected the pull secrets of the order {question.order}; check them")
    if not answer.challenges:
        raise MirrorError(f"the registry has no manifest {question.reference} of {question.repository}")
    if not all(map(headers.is_valid, answer.challenges)):
        raise MirrorError(f"the registry of {question.repository} sent an invalid WWW-Authenticate")
    return RegistryChallenge(answer.challenges)
