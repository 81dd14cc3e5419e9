"""What Dragonfly's clients say, and what they are answered.

They are clients of the same swarms as our peers, through the same scheduler. What follows here is made for how these
clients react: a pull is held for a moment rather than answered "wait", since they sleep on that word; and "wait" is
never said while one of their pieces runs, since the old ones then wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pantala_pieces.errors import StoreError
from pantala_pieces.wrapped import path
from pantala_protocol.sync import PieceFailure, Work
from pantala_protocol.wrapping import Wrapping
from pantala_supernode.dragonfly import wire
from pantala_supernode.dragonfly.checksums import Checksums
from pantala_supernode.dragonfly.clients import Client, Clients
from pantala_supernode.dragonfly.registration import Patience, Registry, is_stale
from pantala_supernode.dragonfly.watch import Watch
from pantala_supernode.dragonfly.wire import Code, Entry, Envelope, Pull, Registration, envelope
from pantala_supernode.events import Events
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.session import SupersededError
from pantala_supernode.tasks.task import LeaseHolder, Task

_DOWN_LINK = 20480
"""KiB per second that a client is allowed; v0.3.1 takes half of that without it."""


class Conversation:
    """Speaks with all clients. ``advertise`` names this supernode, ``clock`` tells monotonic seconds."""

    def __init__(
        self,
        leases: LeaseHolder,
        events: Events,
        managers: Managers,
        dispatcher: Dispatcher,
        clients: Clients,
        checksums: Checksums,
        *,
        advertise: str,
        clock: Callable[[], float],
        patience: Patience,
    ) -> None:
        self.clients = clients
        self._leases = leases
        self._managers = managers
        self._dispatcher = dispatcher
        self._checksums = checksums
        self._advertise = advertise
        self._clock = clock
        self._patience = patience
        watch = Watch(managers.tasks.get, self._turned)
        events.task_changed.subscribe(watch.changed)
        self._accuse = events.piece_accused.publish
        self._registry = Registry(leases, managers.tasks, clients, watch, clock=clock, patience=patience)

    async def register(self, registration: Registration, host: str) -> Envelope:
        """A run of dfget, from the address ``host``, wants a file."""
        return await self._registry.register(registration, host)

    # Pulling

    async def pull(self, pull: Pull) -> Envelope:
        """A client tells what became of a piece and wants more. Raises :class:`wire.BadWordError`."""
        client, task = self._client(pull.task_id, pull.cid)
        if client is None or task is None:
            return envelope(Code.NOT_FOUND, "this client or task is not known; register again")
        self.clients.heard(client)
        if is_stale(client, task):
            return envelope(Code.CDN_FAILED, "the file changed at its origin")
        if pull.status == wire.END:
            self._end(client, succeeded=pull.result == wire.SUCCESS)
            return envelope(Code.OK)
        if pull.status == wire.RUNNING:
            await self._report(client, task, pull)
        self._dispatcher.waiting.supersede(client.name)
        try:
            return await self._answer(client)
        except SupersededError:
            return envelope(Code.WAIT, "a newer request of this client took over")

    async def _report(self, client: Client, task: Task, pull: Pull) -> None:
        piece = self._piece(task, pull.range)
        if pull.result == wire.FAILED:
            kind = client.hints.pop(pull.range, "") or client.hints.pop(pull.provider, "") or "unreachable"
            self._dispatcher.failed(client.session, PieceFailure(task.id, piece, pull.provider, kind))
            await asyncio.sleep(self._patience.pause)
        else:
            self._dispatcher.succeeded(client.session, task, 1 << piece, serves=pull.result == wire.SUCCESS)

    async def _answer(self, client: Client) -> Envelope:
        """Give pieces, or wait for some."""
        deadline = self._clock() + self._patience.hold
        while True:
            known, task = self._client(client.task_id, client.cid)
            if known is not client or task is None:
                return envelope(Code.NOT_FOUND, "this client is not known any more; register again")
            if is_stale(client, task) or task.copy.given_up:
                failure = task.copy.failure
                return envelope(Code.CDN_FAILED, failure.message if failure else "the file changed at its origin")
            if self._has_all(client, task):
                return await self._finish(client, task)
            entries = await self._entries(client, task, self._dispatcher.work(client.session))
            if entries:
                return envelope(Code.CONTINUE, data=entries)
            left = deadline - self._clock()
            if left <= 0:
                return envelope(Code.WAIT)
            await self._hold(client, left)

    async def _hold(self, client: Client, seconds: float) -> None:
        waiting = self._dispatcher.waiting
        held = waiting.enter(client.session)
        try:
            async with asyncio.timeout(seconds):
                await held
        except TimeoutError:
            pass
        finally:
            waiting.leave(client.name, held)

    async def _entries(self, client: Client, task: Task, fresh: tuple[Work, ...]) -> list[Entry]:
        """All that the client was given and did not report: what runs there is ignored, what is done reported again."""
        works = {(work.piece, work.provider): work for work in fresh}
        told = {}
        for given in self._dispatcher.given(client.session, task):
            entry = client.told.get(given) or await self._entry(client, task, given, works.get(given))
            if entry is not None:
                told[given] = entry
        client.told = told
        return list(told.values())

    async def _entry(self, client: Client, task: Task, given: tuple[int, str], work: Work | None) -> Entry | None:
        try:
            work = work or self._dispatcher.piece(task, *given)
            md5 = await self._checksums.piece(task.id, work.generation, work.piece)
        except (LookupError, StoreError):
            self._managers.progress.fail(task.id, client.name, given[0], blame=False)
            self._accuse(task.id, given[0])
            return None
        wrapping = Wrapping(task.copy.piece_size)
        return {
            "range": wrapping.range(work.piece),
            "pieceNum": work.piece,
            "pieceSize": wrapping.wire_size,
            "pieceMd5": md5,
            "cid": self._cid(work),
            "peerIp": work.host,
            "peerPort": work.port,
            "path": work.path or path(work.ticket, work.task_id, work.generation),
            "downLink": _DOWN_LINK,
        }

    def _cid(self, work: Work) -> str:
        """The provider's name to the clients, which break on one of less than 25 characters."""
        if work.provider == SUPERNODE:
            return f"cdnnode:{self._advertise}~{work.task_id}"
        return work.provider if work.path else f"peer:{work.provider}~{work.task_id}"

    async def _finish(self, client: Client, task: Task) -> Envelope:
        """The client has all pieces: tell it the sum of the whole, once that is known."""
        copy = task.copy
        try:
            async with asyncio.timeout(self._patience.hold):
                md5 = await self._checksums.whole(task.id, copy.generation)
        except (TimeoutError, LookupError, StoreError):
            return envelope(Code.WAIT, "the file's md5 is being made")
        if client.md5 not in ("", md5):
            self._registry.reject(task)
            return envelope(Code.CDN_FAILED, "the origin's file has another md5 than was asked for")
        self._end(client, succeeded=True)
        return envelope(
            Code.FINISHED, data={"md5": md5, "fileLength": Wrapping(copy.piece_size).length(copy.length or 0)}
        )

    def _end(self, client: Client, *, succeeded: bool) -> None:
        client.finished = True
        status = DfgetTaskStatus.SUCCESS if succeeded else DfgetTaskStatus.FAILED
        self._managers.dfget_tasks.update_status(client.name, client.task_id, status)
        if not succeeded:
            self._dispatcher.release(client.session)

    # Reports beside the pulls

    def piece_taken(self, task_id: str, cid: str, text: str) -> Envelope:
        """A client wrote a piece, so that it can serve it. Raises :class:`wire.BadWordError`."""
        client, task = self._client(task_id, cid)
        if client is None or task is None or is_stale(client, task):
            return envelope(Code.NOT_FOUND, "this client or task is not known")
        self.clients.heard(client)
        self._dispatcher.succeeded(client.session, task, 1 << self._piece(task, text))
        return envelope(Code.PIECE_TAKEN)

    def piece_failed(self, task_id: str, cid: str, provider: str, text: str, kind: str) -> Envelope:
        """A client says why it will report a failure in a moment."""
        client, _ = self._client(task_id, cid)
        if client is not None and len(client.hints) < 64:
            client.hints[(text or provider)[:512]] = "missing" if kind == "FILE_NOT_EXIST" else "corrupt"
        return envelope(Code.OK)

    def down(self, task_id: str, cid: str) -> Envelope:
        """An uploader does not serve this file any more."""
        client = self.clients.get(task_id, cid)
        if client is not None:
            self.clients.forget(client)
        return envelope(Code.DOWN_TAKEN)

    def spare(self) -> bool:
        """Room is needed: forget of the files that all their clients have the one that was asked for longest ago.

        Tells whether there was one.
        """
        busy = {client.task_id for client in self.clients if not client.finished}
        idle = [
            (task.lease.until, task.id)
            for task in self._managers.tasks
            if task.lease is not None and task.fetchers and not task.wanted and task.complete
            if task.id not in busy and not task.keepers
        ]
        if not idle:
            return False
        _, task_id = min(idle)
        for client in list(self.clients.of(task_id)):
            self.clients.forget(client)
        self._leases.end_lease(task_id, keep=True)
        return True

    def tick(self) -> None:
        """Forget what is over; to be called about once a second."""
        self.clients.tick()
        self._registry.tick()

    def close(self) -> None:
        self._checksums.close()

    # What is known

    def _client(self, task_id: str, cid: str) -> tuple[Client | None, Task | None]:
        client, task = self.clients.get(task_id, cid), self._managers.tasks.get(task_id)
        if client is None or task is None or client.name not in task.fetchers:
            return None, None
        return client, task

    def _has_all(self, client: Client, task: Task) -> bool:
        have = self._managers.progress.pieces_by_cid(task.id, client.name)
        return task.complete and have & task.copy.cached == task.copy.cached

    def _piece(self, task: Task, text: str) -> int:
        try:
            piece = Wrapping(task.copy.piece_size).piece(text)
        except ValueError as error:
            raise wire.BadWordError(str(error)) from None
        if not task.possible >> min(piece, 1 << 22) & 1:
            raise wire.BadWordError(f"the file has no piece {piece}")
        return piece

    def _turned(self, task_id: str) -> None:
        """Something that a held pull must be told became true."""
        for client in self.clients.of(task_id):
            self._dispatcher.waiting.release(client.name)
