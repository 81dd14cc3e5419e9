"""The service for Dragonfly's clients: registrations, pulls and reports.

The clients take part in the same swarms as Pantala's peers, with the same scheduler. Two rules come from the clients'
code. The supernode holds a pull for a moment before it answers "wait", because the client sleeps after that answer. It
does not answer "wait" while the client fetches a piece, because old clients would then never continue.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine
from typing import Any

from pantala_pieces.errors import StoreError
from pantala_pieces.transfer.upload.heads import wrapped_path
from pantala_protocol.geometry import Wrapping
from pantala_protocol.sync import PieceWork
from pantala_supernode.dragonfly.checksums import Checksums
from pantala_supernode.dragonfly.clients import Client, Clients
from pantala_supernode.dragonfly.registration import OTHER_MD5, CopyWatch, Registrations, RegistrationTimeouts, is_stale
from pantala_supernode.dragonfly.wire import Code, Envelope, PieceEntry, PieceResult, PieceStatus, PullRequest, envelope
from pantala_supernode.errors import NotFoundError
from pantala_supernode.events import Events
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.session import SupersededError
from pantala_supernode.tasks.task import LeaseHolder, Task

_DOWN_LINK = 20480
"""The bandwidth in KiB per second that each answer allows. Without this field, v0.3.1 uses only half of its link."""
_MAX_FAILURE_KINDS = 64


class DragonflyService:
    """Answers the requests of clients. ``advertise``: this supernode's name. ``clock`` returns monotonic seconds."""

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
        timeouts: RegistrationTimeouts,
    ) -> None:
        self._clients = clients
        self._leases = leases
        self._managers = managers
        self._dispatcher = dispatcher
        self._checksums = checksums
        self._advertise = advertise
        self._clock = clock
        self._timeouts = timeouts
        self._accuse = events.piece_accused.publish
        watch = CopyWatch(managers.tasks.get, self._on_copy_change)
        events.task_changed.subscribe(watch.on_task_changed)
        self.registrations = Registrations(leases, managers.tasks, clients, watch, clock=clock, timeouts=timeouts)

    # Pulls

    async def pull(self, request: PullRequest) -> Envelope:
        """Apply the report in a pull, and answer with pieces. Raises the errors of :func:`clients.piece_number`."""
        answer = self.begin_pull(request)
        return await answer if isinstance(answer, Coroutine) else answer

    def begin_pull(self, request: PullRequest) -> Envelope | Coroutine[Any, Any, Envelope]:
        """What :meth:`pull` does. Returns the answer, or a coroutine for the answer if the client must wait."""
        client, task = self._client(request.task_id, request.cid)
        if client is None or task is None:
            return envelope(Code.NOT_FOUND, "this client or task is not known; register again")
        self._clients.renew(client)
        if request.status is PieceStatus.FINISHED:
            self._clients.finish(client, succeeded=request.result is PieceResult.SUCCESS)
            return envelope(Code.OK)
        if is_stale(client, task):
            return self._continue(client, task)
        if request.status is PieceStatus.RUNNING:
            self._clients.report(client, task, request.range, request.provider, request.result)
            if request.result is PieceResult.FAILED:
                return self._answer(client, pause=self._timeouts.pause)
        self._dispatcher.waiting.supersede(client.name)
        return self._answer_at_once(client) or self._answer(client)

    async def _answer(self, client: Client, *, pause: float = 0.0) -> Envelope:
        if pause:
            await asyncio.sleep(pause)
            self._dispatcher.waiting.supersede(client.name)
        deadline = self._clock() + self._timeouts.hold
        try:
            while True:
                answer = self._answer_at_once(client)
                task = self._managers.tasks.get(client.task_id)
                if answer is not None or task is None:
                    return answer or envelope(Code.NOT_FOUND, "the supernode no longer has this task; register again")
                if self._has_all(client, task):
                    return await self._finish(client, task)
                if await self._prepare(client, task):
                    continue
                left = deadline - self._clock()
                if left <= 0:
                    return self._wait(client, task)
                await self._hold(client, left)
        except SupersededError:
            return envelope(Code.WAIT, "a newer request of this client replaced this one")

    def _answer_at_once(self, client: Client) -> Envelope | None:
        """An error or pieces for the client. ``None``: the client has all pieces, or the answer takes longer."""
        known, task = self._client(client.task_id, client.cid)
        if known is not client or task is None:
            return envelope(Code.NOT_FOUND, "the supernode no longer knows this client; register again")
        if task.copy.given_up:
            return _failed(task)
        if is_stale(client, task):
            return self._wait(client, task)
        if self._has_all(client, task):
            return None
        entries = self._entries(client, task, self._dispatcher.work(client.session))
        if not entries:
            return None
        client.waits_since = math.inf
        return envelope(Code.CONTINUE, data=entries)

    def _wait(self, client: Client, task: Task) -> Envelope:
        """The answer for a client that must wait for its next piece."""
        since = min(client.waits_since, self._clock()) if task.copy.failure is not None else math.inf
        client.waits_since = since
        return _failed(task) if self._clock() - since > self._timeouts.outage else envelope(Code.WAIT)

    async def _continue(self, client: Client, task: Task) -> Envelope:
        """Answer a client of a former generation. It continues if its pieces are the same in the current content."""
        try:
            async with asyncio.timeout(self._timeouts.hold):  # the sums that are known then are kept
                repeated = await self._repeats(client, task)
        except (TimeoutError, LookupError, StoreError):
            repeated = None
        if repeated is None:
            return self._wait(client, task)
        if not repeated:
            return _failed(task)
        if is_stale(client, task) and self._client(client.task_id, client.cid) == (client, task):
            self._clients.restart(client, task)
        return await self._answer(client)

    async def _repeats(self, client: Client, task: Task) -> bool | None:
        """Return True if the copy has the same md5 as every known piece of the former generation.

        False: an md5 differs, or a comparison is impossible. ``None``: the copy lacks such a piece, or it has changed.
        """
        copy, former = task.copy, self._checksums.pieces(task.id, client.generation)
        if copy.given_up or not former or copy.piece_size not in (0, client.piece_size):
            return False
        held = [piece for piece in former if copy.cached >> piece & 1]
        for piece in held:
            if former[piece] != await self._checksums.piece(task.id, copy.generation, piece):
                return False
        return None if len(held) < len(former) or copy.generation != task.copy.generation else True

    async def _hold(self, client: Client, seconds: float) -> None:
        waiting = self._dispatcher.waiting
        held = waiting.enter(client.session)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await held
        finally:
            waiting.leave(client.name, held)

    def _entries(self, client: Client, task: Task, fresh: tuple[PieceWork, ...]) -> list[PieceEntry]:
        """All pieces that the client was given and has not reported. They are repeated in case an answer was lost.

        Empty: the client has no such piece, or a checksum is missing.
        """
        known = self._checksums.pieces(task.id, task.copy.generation)
        works = {(work.piece, work.provider): work for work in fresh}
        entries = {}
        for given in self._dispatcher.given(client.session, task):
            entry = client.entries.get(given)
            if entry is None:
                md5 = known.get(given[0])
                if md5 is None:
                    return []
                entry = self._entry(client, task, given, works.get(given), md5)
            if entry is not None:
                entries[given] = entry
        client.entries = entries
        return list(entries.values())

    async def _prepare(self, client: Client, task: Task) -> bool:
        """Compute the missing checksums of the client's pieces. False: no checksum was missing."""
        computed = False
        for given in self._dispatcher.given(client.session, task):
            generation = task.copy.generation
            if given not in client.entries and given[0] not in self._checksums.pieces(task.id, generation):
                computed = True
                try:
                    await self._checksums.piece(task.id, generation, given[0])
                except (LookupError, StoreError):
                    self._reject(client, task, given)
        return computed

    def _entry(
        self, client: Client, task: Task, given: tuple[int, str], work: PieceWork | None, md5: str
    ) -> PieceEntry | None:
        try:
            work = work or self._dispatcher.piece(client.session, task, *given)
        except (LookupError, StoreError):
            self._reject(client, task, given)
            return None
        wrapping = Wrapping(task.copy.piece_size)
        return PieceEntry(
            range=wrapping.range(work.piece),
            piece_num=work.piece,
            piece_size=wrapping.wire_size,
            piece_md5=md5,
            cid=self._cid(work),
            peer_ip=work.host,
            peer_port=work.port,
            path=work.path or wrapped_path(work.ticket, work.task_id, work.generation),
            down_link=_DOWN_LINK,
        )

    def _reject(self, client: Client, task: Task, given: tuple[int, str]) -> None:
        """Take back a piece that cannot be read from the volume, and let the piece be checked."""
        with contextlib.suppress(NotFoundError):  # meanwhile, the client left, or the content changed
            self._managers.progress.fail(task.id, client.name, given[0], blame=False)
        self._accuse(task.id, given[0])

    def _cid(self, work: PieceWork) -> str:
        """The provider's ID in answers. Clients fail if an ID has fewer than 25 characters."""
        if work.provider == SUPERNODE:
            return f"cdnnode:{self._advertise}~{work.task_id}"
        return work.provider if work.path else f"peer:{work.provider}~{work.task_id}"

    async def _finish(self, client: Client, task: Task) -> Envelope:
        """Answer a client that has all pieces: with the file's md5, or an error if the client requires another md5."""
        copy = task.copy
        try:
            async with asyncio.timeout(self._timeouts.hold):
                md5 = await self._checksums.whole(task.id, copy.generation)
        except (TimeoutError, LookupError, StoreError):
            return envelope(Code.WAIT, "the supernode still computes the file's md5; ask again")
        if client.md5 not in ("", md5):
            self.registrations.reject(task)
            return envelope(Code.CDN_FAILED, OTHER_MD5)
        self._clients.finish(client, succeeded=True)
        length = Wrapping(copy.piece_size).length(copy.length or 0)
        return envelope(Code.FINISHED, data={"md5": md5, "fileLength": length})

    # Reports beside the pulls

    def piece_taken(self, task_id: str, cid: str, text: str) -> Envelope:
        """A client reports that it can serve a piece. Raises the errors of :func:`clients.piece_number`."""
        client, task = self._client(task_id, cid)
        if client is None or task is None or is_stale(client, task):
            return envelope(Code.NOT_FOUND, "this client or task is not known; register again")
        self._clients.renew(client)
        self._clients.report(client, task, text, "", PieceResult.SUCCESS)
        return envelope(Code.PIECE_TAKEN)

    def piece_failed(self, task_id: str, cid: str, provider: str, text: str, error: str) -> Envelope:
        """Store the cause of a failure. The client sends the cause before it reports the failure in a pull."""
        client, _ = self._client(task_id, cid)
        if client is not None and len(client.failure_kinds) < _MAX_FAILURE_KINDS:
            client.failure_kinds[(text or provider)[:512]] = "missing" if error == "FILE_NOT_EXIST" else "corrupt"
        return envelope(Code.OK)

    def down(self, task_id: str, cid: str) -> Envelope:
        client = self._clients.get(task_id, cid)
        if client is not None:
            self._clients.remove(client)
        return envelope(Code.DOWN_TAKEN)

    def release_idle(self) -> bool:
        """End one lease on a file that no client fetches: the lease that expires first. False: no such lease exists."""
        busy = {client.task_id for client in self._clients if not client.finished}
        idle = [
            (task.lease.until, task.id)
            for task in self._managers.tasks
            if task.lease is not None and task.fetchers and not task.wanted and task.complete
            if task.id not in busy and not task.keepers
        ]
        if not idle:
            return False
        _, task_id = min(idle)
        for client in list(self._clients.of(task_id)):
            self._clients.remove(client)
        self._leases.end_lease(task_id, keep=True)
        return True

    def _client(self, task_id: str, cid: str) -> tuple[Client | None, Task | None]:
        client, task = self._clients.get(task_id, cid), self._managers.tasks.get(task_id)
        if client is None or task is None or client.name not in task.fetchers:
            return None, None
        return client, task

    def _has_all(self, client: Client, task: Task) -> bool:
        return task.is_whole(self._managers.progress.pieces_by_cid(task.id, client.name))

    def _on_copy_change(self, task_id: str) -> None:
        for client in self._clients.of(task_id):
            self._dispatcher.waiting.release(client.name)


def _failed(task: Task) -> Envelope:
    failure = task.copy.failure
    return envelope(Code.CDN_FAILED, failure.message if failure else "the file changed at its origin")
