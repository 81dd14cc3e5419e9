"""Which clients of this node may read which digests. A supernode decides, and the node caches the decision.

Any process of the node can use the mirror. A manifest gives no right to the digests in it, because a registry can write
any digest there. The hash of ``Authorization`` identifies the client. Requests without the header count as one client.
"""

from collections.abc import Callable
from typing import NamedTuple

from pantala_peer.mirror.demand import BlobOrigin
from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.supernode import SupernodeRegistries
from pantala_process.flight import SingleFlight
from pantala_protocol.registry import BlobAnswer
from pantala_protocol.rules.rights import EvidenceKind, Rights, Subject


class _Question(NamedTuple):
    client: Subject
    digest: str


class ReadRights:
    """The rights of clients to manifests and blobs. ``clock`` returns monotonic seconds."""

    def __init__(self, supernode: SupernodeRegistries, rights: Rights, clock: Callable[[], float]) -> None:
        self._supernode = supernode
        self._rights = rights
        self._clock = clock
        self._flight: SingleFlight[_Question, BlobAnswer] = SingleFlight()

    async def aclose(self) -> None:
        await self._flight.close()

    def client(self, repository: str, authorization: str) -> Subject:
        return self._rights.subject(repository, authorization)

    def grant_manifest(self, client: Subject, digest: str) -> None:
        """Record that a supernode sent this manifest for the client."""
        self._rights.grant(client, digest, EvidenceKind.DECIDED, self._clock())

    def has_manifest(self, client: Subject, digest: str) -> bool:
        right = self._rights.find(client, digest, self._clock())
        return right is not None and not right.generation

    async def generation(self, client: Subject, digest: str, origin: BlobOrigin, held: str) -> str:
        """The generation of a blob that the client may read. ``held`` is the generation of the node's pieces, or empty.

        Raises :class:`MirrorError` if the client has no right. If the caller is cancelled, the request continues.
        """
        right = self._rights.find(client, digest, self._clock())
        if right is not None and right.generation and right.generation == held:
            return held
        question = _Question(client, digest)
        answer = await self._flight.share(question, lambda: self._ask(question, origin))
        if not answer.generation:
            why = "the registry does not allow it" if answer.refused else "evidence is still missing"
            raise MirrorError(f"this mirror may not give {digest} to the client: {why}; ask the registry")
        return answer.generation

    async def _ask(self, question: _Question, origin: BlobOrigin) -> BlobAnswer:
        asked = self._clock()
        answer = await self._supernode.may_read(question.digest, origin)
        if answer.generation:
            self._rights.grant(
                question.client,
                question.digest,
                EvidenceKind.DECIDED,
                asked,
                seconds=answer.seconds,
                generation=answer.generation,
            )
        else:
            self._rights.revoke(question.client, question.digest)
        return answer
