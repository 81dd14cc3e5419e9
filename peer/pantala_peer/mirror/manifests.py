"""Manifests, each asked for once of the supernode, and kept; given only to those whom the registry let in."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from pantala_peer.mirror import document
from pantala_peer.mirror.document import Document
from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.permissions import Permissions
from pantala_peer.mirror.ports import Challenge
from pantala_peer.mirror.resource import Repository
from pantala_protocol.registry import ManifestAnswer

_MEMORY = 64 * 1024 * 1024
"""Bytes of manifests that are kept: of some ten thousand images."""


class Asking(Protocol):
    """The port to who speaks with registries."""

    async def manifest(self, repository: Repository, reference: str, authorization: str, order: str) -> ManifestAnswer:
        """Ask for a manifest as who shows ``authorization``, or in the name of an order. Ends in bounded time.

        Raises :class:`MirrorError`.
        """
        ...


class _Question(NamedTuple):
    repository: Repository
    reference: str
    authorization: str
    order: str = ""


class CachedManifests:
    """Keeps what was asked, and grants what it reaches. ``clock`` is that of the permissions."""

    def __init__(
        self, asking: Asking, permissions: Permissions, clock: Callable[[], float], *, memory: int = _MEMORY
    ) -> None:
        self._asking = asking
        self._permissions = permissions
        self._clock = clock
        self._memory = memory
        self._kept: OrderedDict[str, Document] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[_Question, asyncio.Task[Document | Challenge]] = {}

    def holds(self, repository: Repository, reference: str, authorization: str) -> bool:
        """Whether it is here and this client may have it."""
        return self._find(_Question(repository, reference, authorization)) is not None

    async def get(
        self, repository: Repository, reference: str, authorization: str, order: str = ""
    ) -> Document | Challenge:
        """The manifest with a digest, or of a tag, for who shows ``authorization``. Raises :class:`MirrorError`.

        With an ``order`` it is asked for in its name, and kept for who shows this.

        Who is cancelled leaves alone: what is under way is for the next one, too.
        """
        question = _Question(repository, reference, authorization, order)
        return self._find(question) or await self._share(question)

    async def aclose(self) -> None:
        """Ask for nothing any more."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find(self, question: _Question) -> Document | None:
        repository, reference, authorization, _ = question
        kept = self._kept.get(reference)
        if kept is None or self._permissions.find(str(repository), authorization, reference, self._clock()) is None:
            return None
        self._kept.move_to_end(reference)
        return kept

    async def _share(self, question: _Question) -> Document | Challenge:
        task = self._under_way.get(question)
        if task is None:
            task = self._under_way[question] = asyncio.create_task(self._ask(question))
            task.add_done_callback(lambda done: self._land(question, done))
        return await asyncio.shield(task)

    def _land(self, question: _Question, done: asyncio.Task[Document | Challenge]) -> None:
        del self._under_way[question]
        if not done.cancelled():
            done.exception()  # it may be that nobody waits for it any more

    async def _ask(self, question: _Question) -> Document | Challenge:
        repository, reference, authorization, order = question
        answer = await self._asking.manifest(repository, reference, "" if order else authorization, order)
        if not answer.body:
            return _challenge(answer, question)
        if ":" in reference and answer.digest != reference:
            raise MirrorError(f"the supernode gave another manifest for {repository}@{reference}")
        found = document.check(answer.digest, answer.media_type, answer.body)
        self._keep(found)
        self._permissions.grant(str(repository), authorization, document.reached(found), self._clock())
        return found

    def _keep(self, found: Document) -> None:
        former = self._kept.pop(found.digest, None)
        self._kept[found.digest] = found
        self._bytes += len(found.body) - (len(former.body) if former else 0)
        while self._bytes > self._memory:
            self._bytes -= len(self._kept.popitem(last=False)[1].body)


def _challenge(answer: ManifestAnswer, question: _Question) -> Challenge:
    if question.order:
        raise MirrorError(f"the registry does not let the order {question.order} in; its pull secrets may be wrong")
    if not answer.challenges:
        raise MirrorError(f"the registry gives no manifest {question.reference} of {question.repository}")
    if not all(value.isascii() and value.isprintable() for value in answer.challenges):
        raise MirrorError(f"the registry of {question.repository} challenges with what is no header")
    return Challenge(answer.challenges)
