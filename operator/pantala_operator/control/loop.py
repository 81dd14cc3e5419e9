"""The control loop makes all plans in one place. Its subscriptions show which objects each event makes it plan.

An event only marks the objects to plan again. So an event may arrive once, twice, late or not at all. Each round of
full lists marks all objects.
"""

import asyncio

import structlog
from msgspec.structs import replace

from pantala_operator.control.peers import PeerController
from pantala_operator.control.prefetch import PrefetchController
from pantala_operator.control.sources import SourceController
from pantala_operator.control.tasks import TaskController
from pantala_operator.events import (
    ImageResolved,
    LeadershipChanged,
    ListsRead,
    OperatorEvents,
    ProgressReported,
    ReplicasFound,
    ResourceChanged,
    SecretRead,
    SilenceChanged,
    StatementTaken,
    SupernodeReachability,
    SupernodeReported,
    WorkloadsChanged,
    WriteEnded,
)
from pantala_operator.ports import Clock
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.resources.sources import SourcePolicy
from pantala_operator.supernodes.connections import SupernodeClients
from pantala_operator.term import Term
from pantala_operator.watch.observation import Observation, secret_key
from pantala_process.backoff import pause_until
from pantala_protocol.statement import Statement

log = structlog.get_logger(__name__)

_LONGEST_SLEEP = 5.0
"""Seconds between two turns, at most. The health check expects a turn within a minute."""


class Loop:
    """Waits until objects are marked, plans these objects, and sends each supernode its statement."""

    def __init__(
        self,
        observation: Observation,
        events: OperatorEvents,
        clients: SupernodeClients,
        tasks: TaskController,
        prefetches: PrefetchController,
        peers: PeerController,
        sources: SourceController,
        clock: Clock,
        term: Term,
    ) -> None:
        self._observation = observation
        self._clients = clients
        self._tasks = tasks
        self._prefetches = prefetches
        self._peers = peers
        self._sources = sources
        self._clock = clock
        self._term = term
        self._signal = asyncio.Event()
        self._marked: set[str] = set()
        self._all_marked = True
        self.last_alive = clock.monotonic()
        """When the loop began its last turn, by the monotonic clock."""
        events.subscribe(ResourceChanged, self._on_resource)
        events.subscribe(ListsRead, lambda _: self._mark_all())
        events.subscribe(WorkloadsChanged, lambda _: self._mark_images())
        events.subscribe(SecretRead, self._on_secret)
        events.subscribe(ReplicasFound, self._on_replicas)
        events.subscribe(SupernodeReported, self._on_report)
        events.subscribe(ProgressReported, self._on_progress)
        events.subscribe(SilenceChanged, self._on_silence)
        events.subscribe(SupernodeReachability, self._on_reachability)
        events.subscribe(StatementTaken, self._on_statement)
        events.subscribe(ImageResolved, self._on_image)
        events.subscribe(WriteEnded, self._on_write)
        events.subscribe(LeadershipChanged, lambda _: self._mark_all())

    # Events mark what must be planned again.

    def _on_resource(self, event: ResourceChanged) -> None:
        match event.resource:
            case TaskResource() as task:
                if event.deleted:
                    self._mark_images()
                self._mark(task.metadata.uid)
            case ImagePrefetch():
                self._mark_images()
            case SourcePolicy():
                self._signal.set()
            case _:
                self._mark_all()

    def _on_secret(self, event: SecretRead) -> None:
        self._prefetches.read(event.key)
        tasks = self._observation.tasks.items.values()
        self._mark(*(each.metadata.uid for each in tasks if secret_key(each) == event.key))

    def _on_replicas(self, event: ReplicasFound) -> None:
        if self._observation.supernodes.set_replicas(event):
            self._connect()

    def _on_report(self, event: SupernodeReported) -> None:
        supernodes, changes = self._observation.supernodes, event.changes
        new = not supernodes.views[event.name].reported
        touched, peers_changed = supernodes.on_update(event.name, changes)
        if new or peers_changed:  # a new supernode may have neither tasks nor peers, but needs its first statement
            self._mark_all()
        elif changes.peers:
            self._mark_images()
        if touched:
            self._mark(*touched)

    def _on_progress(self, event: ProgressReported) -> None:
        progress, tasks = self._observation.progress, self._observation.tasks.items.values()
        before = progress.moving
        changed = progress.on_progress(event.name, event.progress, self._clock.now().timestamp())
        if changed:
            self._mark(*(each.metadata.uid for each in tasks if each.status.task_id in changed))
        # A task that is not a file is a blob of an image, whose status names the bytes.
        ended = before - progress.moving
        if changed or (ended and ended - {each.status.task_id for each in tasks}):
            self._mark_images()

    def _on_silence(self, _: SilenceChanged) -> None:
        unfinished = (each for each in self._observation.tasks.items.values() if not each.is_ready)
        self._mark(*(each.metadata.uid for each in unfinished))
        self._peers.mark()
        self._mark_images()

    def _on_reachability(self, event: SupernodeReachability) -> None:
        self._observation.supernodes.on_reachability(event.name, event.problem)
        self._mark_all()

    def _on_statement(self, event: StatementTaken) -> None:
        uids = [wanted.uid for wanted in event.tasks]
        self._mark(*self._observation.supernodes.on_statement(event.name, uids, event.revision))
        former = self._observation.cut.get(event.name, {})
        self._observation.cut[event.name] = event.cut
        if former != event.cut:
            changed = {key for key in former.keys() | event.cut.keys() if former.get(key) != event.cut.get(key)}
            self._mark(*(key for key in changed if "/" not in key))  # the keys of images have a slash
            self._mark_images()
        self._signal.set()

    def _on_image(self, event: ImageResolved) -> None:
        self._prefetches.answered(event.uid, event.key, event.answer)
        self._signal.set()

    def _on_write(self, event: WriteEnded) -> None:
        if event.key.startswith("peer/"):
            self._peers.mark()
            self._signal.set()
        elif event.key.startswith("sourcepolicy/"):
            self._signal.set()
        elif "/" in event.key or self._prefetches.knows(event.key):
            self._mark_images()
        else:
            self._mark(event.key)

    def _mark(self, *uids: str) -> None:
        self._marked.update(uids)
        self._signal.set()

    def _mark_images(self) -> None:
        self._prefetches.mark()
        self._signal.set()

    def _mark_all(self) -> None:
        self._all_marked = True
        self._mark_images()

    # A turn plans what is marked.

    async def run(self) -> None:
        while True:
            self.last_alive = self._clock.monotonic()
            self._signal.clear()
            if self._observation.listed and self._term.leads:
                self.turn()
            await self._sleep()

    def turn(self) -> None:
        """Plan all marked objects once. The writer and the clients use the plans later."""
        now = self._clock.now()
        marked, everything = self._marked, self._all_marked
        self._marked, self._all_marked = set(), False
        files, images = {}, set()
        for each in self._observation.tasks.items.values():
            if each.spec.is_image:
                images.add(each.metadata.uid)
            else:
                files[each.metadata.uid] = each
        if marked & images:
            self._prefetches.mark()
        self._tasks.turn(files, marked - images, now, everything=everything)
        if everything:
            self._peers.mark()
        self._peers.turn(now)
        if self._sources.turn(now):
            self._prefetches.ask_again()
        self._prefetches.turn(now)
        if self._observation.complete and self._prefetches.settled:
            self._state()

    def _state(self) -> None:
        """Send each supernode its statement, and release leaving supernodes that have no tasks left."""
        supernodes = self._observation.supernodes
        common = Statement(
            0,
            membership=supernodes.membership(self._clock.now()),
            images=self._prefetches.images,
            unchanged=self._prefetches.unchanged,
            survey=self._prefetches.survey,
            sources=self._sources.rules,
            zones=self._observation.zones,
        )
        for member in supernodes.members:
            tasks, view = self._tasks.wanted_from(member.name), supernodes.views[member.name]
            client = self._clients.client(member.name)
            if view.reported:
                client.want(replace(common, tasks=tasks))
            empty = not tasks and client.is_empty
            if member.leaving and (empty or view.silent):
                log.info("A supernode was removed", supernode=member.name)
                supernodes.release(member.name)
                self._observation.progress.forget(member.name)
                self._observation.cut.pop(member.name, None)
                self._connect()

    def _connect(self) -> None:
        self._clients.set_replicas(self._observation.supernodes.members)
        self._mark_all()

    def _longest_sleep(self) -> float:
        """The seconds until the loop runs its next turn, if no event arrives before that."""
        longest, now = _LONGEST_SLEEP, self._clock.now()
        if not self._term.leads:
            return longest
        pause = self._prefetches.pause(now)
        if pause is not None:
            longest = min(longest, pause + 0.05)
        if (wake_at := self._tasks.wake_at) is not None:
            longest = min(longest, max((wake_at - now).total_seconds(), 0.0) + 0.1)
        return longest

    async def _sleep(self) -> None:
        if await pause_until(self._signal, self._longest_sleep()):
            await asyncio.sleep(0.02)  # events that arrive together are planned together
