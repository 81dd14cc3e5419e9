"""The one loop that plans everything and writes everything, and its single place of decision: :meth:`Loop.run`.

Whatever happens only marks what has to be planned anew. So it does not matter whether an event came once, twice, late,
or never: the periodic full list marks everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
import structlog

from pantala_operator.control.choice import TargetChoice
from pantala_operator.control.prefetch import PrefetchController
from pantala_operator.control.writer import Writer
from pantala_operator.plan import statement, task
from pantala_operator.plan.statement import Claim, Origin
from pantala_operator.plan.target import Targets
from pantala_operator.plan.task import Observed, TaskPlan
from pantala_operator.ports import Clock
from pantala_operator.resources import api
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.prefetch import PLURAL, read_prefetch
from pantala_operator.supernodes.client import DesiredState
from pantala_operator.supernodes.connections import SupernodeClients
from pantala_operator.supernodes.replicas import Replicas
from pantala_operator.watch.observation import Observation, secret_key
from pantala_protocol.statement import Changes, WantedTask

log = structlog.get_logger(__name__)

_LONGEST_SLEEP = 5.0
"""Seconds: the heart beats at least that often."""


class Loop:
    """An inbox for everybody, and one consumer."""

    def __init__(
        self, observation: Observation, writer: Writer, prefetching: PrefetchController, clock: Clock, root: str
    ) -> None:
        """``root``: the directory of files on nodes. Call :meth:`attach` before :meth:`run`."""
        self._known = observation
        self._writer = writer
        self._prefetching = prefetching
        self._clock = clock
        self._root = root
        self._conversations: SupernodeClients | None = None
        self._signal = asyncio.Event()
        self._dirty: set[str] = set()
        self._all_dirty = True
        self._wanted: dict[str, WantedTask] = {}
        self._stated: dict[str, frozenset[str]] = {}
        self._claims: dict[str, Claim] = {}
        self._by_path: dict[str, dict[str, Claim]] = {}
        self._wake: dict[str, datetime] = {}
        self._peers_written = 0.0
        writer.again = self.mark
        self.beat = clock.monotonic()
        """When the loop was last seen alive, by the monotonic clock."""

    def attach(self, conversations: SupernodeClients) -> None:
        """Say where the statements go."""
        self._conversations = conversations

    # What may happen.

    def put(self, kind: str, event: str | None, body: Mapping[str, Any]) -> None:
        """See :class:`pantala_operator.ports.Inbox`."""
        try:
            match kind:
                case "tasks":
                    self._saw_task(api.read_task(body), gone=event == "DELETED")
                case "nodes":
                    node = api.read_node(body)
                    former = self._known.nodes.items.get(node.metadata.key)
                    changed = self._known.nodes.lose(node) if event == "DELETED" else self._known.nodes.see(node)
                    if changed and (former is None or event == "DELETED" or _differs(former, node)):
                        self.mark_all()
                case kind if kind == PLURAL:
                    prefetch = read_prefetch(body)
                    known = self._known.prefetches
                    if known.lose(prefetch) if event == "DELETED" else known.see(prefetch):
                        self.mark_images()
                case "peers":
                    peer = api.read_peer(body)
                    if self._known.peers.lose(peer) if event == "DELETED" else self._known.peers.see(peer):
                        self.mark_all()
        except msgspec.ValidationError as error:
            log.warning("An object cannot be read and is passed over", kind=kind, error=str(error))

    def settle(self, replicas: Replicas) -> None:
        """Somebody said which supernodes there shall be."""
        if self._known.supernodes.settle(replicas):
            self._meet()

    def hear(self, member: str, changes: Changes) -> None:
        """A supernode said something."""
        new = not self._known.supernodes.views[member].heard
        touched, peers_changed = self._known.supernodes.hear(member, changes)
        if new or peers_changed:  # a new one may have neither tasks nor peers: now it is told what it shall have
            self.mark_all()
        elif changes.peers:
            self.mark_images()
            self._mark(touched)
        else:
            self._mark(touched)

    def away(self, member: str, reason: str) -> None:
        """A supernode cannot be asked, or (empty ``reason``) can be asked again."""
        self._known.supernodes.silence(member, reason)
        self.mark_all()

    def wake(self) -> None:
        """A supernode took a statement: one that leaves may have nothing left to give."""
        self._signal.set()

    def mark_all(self) -> None:
        """Plan everything anew."""
        self._all_dirty = True
        self.mark_images()

    def mark_images(self) -> None:
        """Plan anew what has to do with images."""
        self._prefetching.mark()
        self._signal.set()

    def mark(self, key: str) -> None:
        """Plan one object anew: a Task or an ImagePrefetch by its UID, ``peer/<name>``, or another thing by its key."""
        if key.startswith("peer/"):
            self._peers_written = 0.0
            self._signal.set()
        elif "/" in key or self._prefetching.knows(key):
            self.mark_images()
        else:
            self._mark([key])

    def mark_secret(self, key: tuple[str, str]) -> None:
        """A Secret was read: plan what names it."""
        self._prefetching.read(key)
        self._signal.set()
        self._mark(each.metadata.uid for each in self._known.tasks.items.values() if secret_key(each) == key)

    def _saw_task(self, seen: TaskResource, *, gone: bool) -> None:
        if gone:
            self._known.tasks.lose(seen)
            self.mark_images()
            self._mark([seen.metadata.uid])
        elif self._known.tasks.see(seen):
            self._mark([seen.metadata.uid])

    def _mark(self, uids: Iterable[str]) -> None:
        self._dirty.update(uids)
        if self._dirty:
            self._signal.set()

    # What is done about it.

    async def run(self) -> None:
        """Plan what is marked, for ever."""
        while True:
            self.beat = self._clock.monotonic()
            self._signal.clear()
            if self._known.listed:
                self.turn()
            await self._sleep()

    def turn(self) -> None:
        """Plan all that is marked, once; writing is handed to the writer."""
        now = self._clock.now()
        tasks, images = {}, set()
        for each in self._known.tasks.items.values():
            if each.spec.is_image:
                images.add(each.metadata.uid)
            else:
                tasks[each.metadata.uid] = each
        if self._dirty & images:
            self._prefetching.mark()
            self._dirty -= images
        dirty = set(tasks) if self._all_dirty else self._dirty & tasks.keys()
        dirty |= {uid for uid, at in self._wake.items() if at <= now}
        gone = (self._wanted.keys() | self._claims.keys() | self._wake.keys() | self._dirty) - tasks.keys()
        everything, self._all_dirty, self._dirty = self._all_dirty, False, set()
        for uid in gone:
            dirty |= self._forget(uid)
        dirty &= tasks.keys()
        choice = TargetChoice(self._known)
        targets = {uid: choice.of(tasks[uid]) for uid in dirty}
        for uid in list(dirty):
            dirty |= self._claim(tasks[uid], targets[uid], now) & tasks.keys()
        for uid in dirty:
            self._plan(tasks[uid], choice, now)
        if everything or self._clock.monotonic() - self._peers_written >= _LONGEST_SLEEP:
            self._peers_written = self._clock.monotonic()
            self._writer.write_peers(now)
        self._prefetching.turn(now)
        if self._known.complete and self._prefetching.settled and self._conversations is not None:
            self._state(self._conversations, now)

    def _state(self, conversations: SupernodeClients, now: datetime) -> None:
        """Tell each supernode its part; let go who was leaving and has nothing left to give."""
        supernodes = self._known.supernodes
        ordered = sorted(self._wanted)
        parts = {
            member.name: tuple(self._wanted[uid] for uid in ordered if member.name in self._stated[uid])
            for member in supernodes.members
        }
        images, survey, members = self._prefetching.images, self._prefetching.survey, supernodes.membership(now)
        wishes = {name: DesiredState(part, members, images, survey) for name, part in parts.items()}
        conversations.want({name: wish for name, wish in wishes.items() if supernodes.views[name].heard})
        for member in supernodes.members:
            bare = not parts[member.name] and conversations.is_bare(member.name)
            if member.leaving and (bare or supernodes.views[member.name].silent):
                log.info("A supernode has left", supernode=member.name)
                supernodes.release(member.name)
                self._meet()

    def _meet(self) -> None:
        if self._conversations is not None:
            self._conversations.settle(self._known.supernodes.members)
        self.mark_all()

    def _claim(self, each: TaskResource, chosen: Targets, now: datetime) -> set[str]:
        """Take note of the path that a Task claims. Returns the Tasks for which that may change something."""
        metadata = each.metadata
        path = statement.path(each, self._root)
        source = statement.origin(each, self._known.secret_of(each))
        former = self._claims.get(metadata.uid)
        claim: Claim | None = None
        if isinstance(path, str) and path and isinstance(source, Origin):
            created = metadata.creation_timestamp or now
            nodes = frozenset(chosen.wanted)
            claim = Claim(metadata.uid, metadata.key, path, source.task_id, nodes, created)
        if claim == former:
            return set()
        concerned = self._release(metadata.uid)
        if claim is not None:
            self._claims[metadata.uid] = claim
            self._by_path.setdefault(claim.path, {})[metadata.uid] = claim
            concerned |= self._by_path[claim.path].keys()
        return concerned

    def _release(self, uid: str) -> set[str]:
        former = self._claims.pop(uid, None)
        if former is None:
            return set()
        rivals = self._by_path[former.path]
        del rivals[uid]
        if not rivals:
            del self._by_path[former.path]
        return set(rivals)

    def _forget(self, uid: str) -> set[str]:
        self._wanted.pop(uid, None)
        self._stated.pop(uid, None)
        self._wake.pop(uid, None)
        self._known.supernodes.forget(uid)
        self._writer.forget(uid)
        return self._release(uid)

    def _plan(self, each: TaskResource, choice: TargetChoice, now: datetime) -> None:
        uid = each.metadata.uid
        claim = self._claims.get(uid)
        standing = choice.standing(each)
        observed = Observed(
            secret=self._known.secret_of(each),
            targets=choice.of(each),
            owner=statement.winner(claim, self._by_path[claim.path]) if claim is not None else None,
            report=standing.report,
            holders=standing.holders,
            heard=self._known.supernodes.heard,
            away=standing.away,
        )
        self._stated[uid] = standing.stated
        self._follow(each, task.plan(each, observed, self._root, now))

    def _follow(self, each: TaskResource, plan: TaskPlan) -> None:
        uid = each.metadata.uid
        if plan.wanted is None:
            self._wanted.pop(uid, None)
        else:
            self._wanted[uid] = plan.wanted
        if plan.wake_at is None:
            self._wake.pop(uid, None)
        else:
            self._wake[uid] = plan.wake_at
        self._writer.write(each, plan)

    async def _sleep(self) -> None:
        longest = _LONGEST_SLEEP
        pause = self._prefetching.pause(self._clock.now())
        if pause is not None:
            longest = min(longest, pause + 0.05)
        if self._wake:
            # One second more than asked for: the clock tells whole seconds.
            until = (min(self._wake.values()) - self._clock.now()).total_seconds()
            longest = min(longest, max(until, 0.0) + 0.1)
        try:
            async with asyncio.timeout(longest):
                await self._signal.wait()
        except TimeoutError:
            return
        await asyncio.sleep(0.02)  # What comes in bursts is planned together.


def _differs(former: api.Node, latter: api.Node) -> bool:
    """Whether the choice of nodes may change: a kubelet writes its Node's status all the time."""
    return former.spec != latter.spec or former.metadata.labels != latter.metadata.labels
