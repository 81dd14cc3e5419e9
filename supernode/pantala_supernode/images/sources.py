"""The sources of blobs: which clients offer them, which of them failed, and which are used last. Pure."""

from collections.abc import Callable
from dataclasses import replace

import structlog

from pantala_protocol import image, task_id
from pantala_protocol.image import ImageRepository
from pantala_protocol.reasons import Reason
from pantala_protocol.rules.rights import SECONDS, BlobClaim, Rights, Subject
from pantala_protocol.sync import WantedBlob
from pantala_supernode.errors import LimitedError, RequestError, SourceError
from pantala_supernode.images.blob import LeasedBlob, Offer
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.shares import IMAGES

_log = structlog.get_logger(__name__)

_POD_IDENTITY = "\n"
"""Stands for the credential of the supernode's own cloud identity. No header can have this value."""
_ANY = "*"
"""Stands for all blobs of a registry that sent wrong bytes."""
_MOST_CREDENTIALS = 1024
"""The most credentials that one peer may show in :data:`SECONDS`. A node with 250 new pods shows some hundreds."""
_REFUSED = frozenset({Reason.SOURCE_FORBIDDEN, Reason.SOURCE_NOT_FOUND, Reason.SOURCE_UNAUTHORIZED})
_WRONG = frozenset({Reason.DIGEST_MISMATCH, Reason.LENGTH_MISMATCH, Reason.SOURCE_CHANGED})


class BlobSources:
    """Makes the sources of wanted blobs, and records failed sources. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        images: StatedImages,
        accounts: OrderAccounts,
        endpoints: RegistryEndpoints,
        rights: Rights,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._images = images
        self._accounts = accounts
        self._endpoints = endpoints
        self._rights = rights
        self._clock = clock
        self._shown: dict[str, set[Subject]] = {}
        """The clients whose credentials each peer has shown, since the last :attr:`_ends`."""
        self._ends = 0.0

    def check(self, peer: str, repository: ImageRepository, credential: str) -> None:
        """Raise :class:`LimitedError` if a peer shows too many credentials, because a registry is asked for each."""
        if self._clock() >= self._ends:
            self._shown, self._ends = {}, self._clock() + SECONDS
        shown, client = self._shown.setdefault(peer, set()), self._rights.subject(str(repository), credential)
        if client not in shown and len(shown) >= _MOST_CREDENTIALS:
            text = f"node {peer!r} has sent more than {_MOST_CREDENTIALS} credentials in {SECONDS:.0f} s"
            raise LimitedError(f"{text}; ask the registry without the supernode")
        shown.add(client)

    def of(self, peer: str, name: str, wanted: WantedBlob) -> tuple[Offer, ...]:
        """The sources from which a peer may read a blob. Empty if the peer's request is not valid, which is logged."""
        try:
            _check(name, wanted)
            repository = ImageRepository(wanted.registry, wanted.repository)
            url = self._endpoints.blob(repository, wanted.digest)
            if not wanted.order:
                self.check(peer, repository, wanted.credential)
                sources = [blob_source(url, wanted.credential, wanted.digest)]
            else:
                order, reference = self._images.ordered(peer, wanted.order, str(repository))
                sources = [
                    blob_source(url, account.authorization, wanted.digest, pod_identity=account.pod_identity)
                    for account in self._accounts.of(order, reference)
                ]
            return tuple(blob_offer(self._rights, repository, source) for source in sources)
        except (ValueError, RequestError, SourceError) as error:
            _log.warning("cannot fetch a blob; the peer asks the registry", peer=peer, task=name, error=str(error))
            return ()

    def is_usable(self, blob: LeasedBlob, offer: Offer) -> bool:
        """False for a source that failed, or whose client was refused some minutes ago."""
        client = offer.claim.client
        return client not in blob.failed and not self._rights.is_refused(client, blob.digest, self._clock())

    def is_suspect(self, blob: LeasedBlob, offer: Offer) -> bool:
        """True for a source that is used only after all others: its registry sent wrong bytes, or was slow."""
        lied = self._rights.is_refused(self._rights.everyone(offer.registry), _ANY, self._clock())
        return lied or offer.registry in blob.slow

    def blame(self, copy: Copy, blob: LeasedBlob) -> bool:
        """Record the final failure of a source. Returns True if the current source can no longer be used."""
        failure, source, now = copy.failure, copy.failed_source, self._clock()
        if failure is None or not failure.final or source is None or not source.client:
            return False
        client = Subject(bytes.fromhex(source.client))
        failed = Offer(source, BlobClaim(source.origin, blob.digest, client))
        if not self.is_usable(blob, failed):
            return False
        if failure.reason in _REFUSED:
            self._rights.refuse(client, blob.digest, now)
        elif failure.reason in _WRONG:
            # Refuse only this client, because the wrong bytes may be the registry's answer to its credential.
            self._rights.refuse(client, blob.digest, now)
            self._rights.refuse(self._rights.everyone(failed.registry), _ANY, now)
        else:
            blob.failed.add(client)
        return blob.turn is not None and not self.is_usable(blob, blob.turn.offer)


def blob_offer(rights: Rights, repository: ImageRepository, source: FileSource) -> Offer:
    """The offer of a blob's source. The client is identified by the source's credential."""
    credential = _POD_IDENTITY if source.pod_identity else source.headers.get("Authorization", "")
    claim = BlobClaim(str(repository), source.digest or "", rights.subject(str(repository), credential))
    return Offer(replace(source, origin=str(repository), client=claim.client.hex()), claim)


def blob_source(url: str, authorization: str, digest: str, *, pod_identity: bool = False) -> FileSource:
    """The source of a blob at the registry's ``url``. An empty ``authorization`` means an anonymous request."""
    headers = {"Authorization": authorization} if authorization else {}
    return FileSource(url, headers, digest, pod_identity=pod_identity, tenants=frozenset({IMAGES}))


def _check(name: str, wanted: WantedBlob) -> None:
    """Raise :class:`ValueError` if a wanted blob has invalid names, or a digest that does not match the task ID."""
    if task_id.of_blob(wanted.digest) != name:
        raise ValueError("the blob's task ID does not match its digest")
    image.check_registry(wanted.registry)
    image.check_repository(wanted.repository)
