"""Limits how many files are read at once. An origin that does not answer does not keep others waiting."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin.limits import Gate, GatePlace
from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.tasks.copy import FileSource

_PATIENCE = 2.0
"""Seconds for which an origin that has not answered keeps its place, although others wait."""
_SILENT = 48
"""The most requests without a place that wait for an answer. With more, the oldest one ends, and is repeated later."""


class GatedReader:
    """Opens files with ``reader``. Each open file holds a place in ``gate``, and waits for it.

    A request that has no answer after ``patience`` seconds gives its place to a file that waits. Once the answer has
    arrived, the request waits for a place again.
    """

    def __init__(self, reader: SourceReader, gate: Gate, *, patience: float = _PATIENCE, silent: int = _SILENT) -> None:
        self._reader = reader
        self._gate = gate
        self._patience = patience
        self._most = silent
        self._silent: dict[GatePlace, asyncio.Timeout] = {}
        """The requests that have given their place away, the oldest first."""

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        async with self._gate.place(source.priority) as place, AsyncExitStack() as stack:
            opening = stack.enter_async_context(self._reader.open(source, resume))
            answer = await self._answered(place, opening, RedactedURL(source.url))
            await place.take()
            yield answer

    async def _answered(self, place: GatePlace, opening: Coroutine[Any, Any, Answer], shown: RedactedURL) -> Answer:
        limit = asyncio.timeout(None)
        lending = asyncio.create_task(self._lend(place, limit))
        try:
            async with limit:
                return await opening
        except TimeoutError:
            if not limit.expired():
                raise
            raise errors.SourceTimeoutError.with_action(
                f"{shown} did not answer while many other files waited for a place"
            ) from None
        finally:
            lending.cancel()
            self._silent.pop(place, None)

    async def _lend(self, place: GatePlace, limit: asyncio.Timeout) -> None:
        await asyncio.sleep(self._patience)
        await self._gate.crowded()
        if len(self._silent) >= self._most:
            self._silent.pop(next(iter(self._silent))).reschedule(0)
        self._silent[place] = limit
        place.give()
