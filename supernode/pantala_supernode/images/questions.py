"""Answers the questions of peers whether a client may read a blob."""

import asyncio
from collections.abc import Callable

from pantala_protocol.registry import BlobAnswer
from pantala_protocol.rules.rights import Right
from pantala_protocol.sync import WantedBlob
from pantala_supernode.errors import NotReadyError
from pantala_supernode.images.leases import BlobLeases
from pantala_supernode.tasks.manager import TaskManager

_HOLD = 8.0
"""The most seconds that a question waits for evidence. Peers wait a little longer for the answer."""


class BlobQuestions:
    """Holds each question until there is evidence. ``clock`` returns monotonic seconds."""

    def __init__(self, blobs: BlobLeases, tasks: TaskManager, *, clock: Callable[[], float]) -> None:
        self._blobs = blobs
        self._tasks = tasks
        self._clock = clock

    async def ask(self, peer: str, wanted: WantedBlob) -> BlobAnswer:
        """Whether the client with the credential in ``wanted`` may read the blob.

        Raises :class:`ForbiddenError` if the question is not valid, :class:`NotReadyError` before the first statement.
        """
        if not self._tasks.stated:
            raise NotReadyError("this supernode has not received the operator's statement yet")
        answered: asyncio.Future[Right | None] = asyncio.get_running_loop().create_future()

        def answer(right: Right | None) -> None:
            if not answered.done():
                answered.set_result(right)

        question = self._blobs.ask(peer, wanted, answer)
        try:
            async with asyncio.timeout(_HOLD):
                right = await answered
        except TimeoutError:
            return BlobAnswer()
        finally:
            self._blobs.end(question)
        if right is None:
            return BlobAnswer(refused=True)
        return BlobAnswer(right.generation, max(right.until - self._clock(), 0.0))
