"""The volume as one copy uses it: one blocking job after another, and room made where there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pantala_pieces.store import PieceStore
from pantala_protocol.redaction import RedactedURL
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.errors import VolumeFullError
from pantala_supernode.volume.lane import SerialExecutor

T = TypeVar("T")

MakeRoom = Callable[[int], Awaitable[bool]]
"""Remove what nobody wants, for so many bytes; tells whether it is worth to try again."""


async def no_room(_: int) -> bool:
    """Nothing can be removed."""
    return False


class Room:
    """Runs one copy's jobs. What does not fit is remembered, so that the origin is not asked for it in vain."""

    def __init__(self, lane: SerialExecutor, store: PieceStore, history: Attempts, make: MakeRoom) -> None:
        self._lane = lane
        self._store = store
        self._history = history
        self._make = make

    async def run(self, job: Callable[[], T], size: int = 0) -> T:
        """Run ``job``, which writes ``size`` bytes and can be repeated.

        Raises :class:`VolumeFullError` if there is no room and none can be made.
        """
        while True:
            try:
                return await self._lane.run(job)
            except VolumeFullError:
                if await self._make(size):
                    continue
                self._history.room_needed = size
                raise

    async def await_need(self, shown: RedactedURL) -> None:
        """Raise :class:`VolumeFullError` if what did not fit before does not fit now, either."""
        needed = self._history.room_needed
        if not needed:
            return
        free = (await self._lane.run(self._store.usage)).free
        if free < needed and not await self._make(needed):
            raise VolumeFullError(
                f"{shown} needs {needed} bytes on the volume and {free} are free. {VolumeFullError.reason.action}"
            )
        self._history.room_needed = 0
