"""Stores which supernodes exist, and the report of each supernode. Pure."""

import operator
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

import msgspec

from pantala_operator.events import ReplicasFound
from pantala_operator.supernodes.placement import Placement, ReplicaReport, place
from pantala_protocol.images import PullState
from pantala_protocol.nodes.sets import NodeTable
from pantala_protocol.statement import Changes, Member, Membership, PeerReport, TaskReport, owner_among

_MOST_EPOCH = 1 << 30
"""A Lease counts its transitions in 31 bits. A supernode that reports more is damaged or lies."""
_NO_NODES = NodeTable()


class SupernodeView:
    """The reports of one supernode. After its restart, older reports count for nodes that have not reconnected yet."""

    def __init__(self) -> None:
        self.boot = ""
        self.revision = 0
        """The revision of the statement that the supernode follows."""
        self.reported = False
        """True once it has reported its peers and tasks."""
        self.silent = ""
        """Why the supernode cannot be reached. Empty if it can."""
        self.reports: dict[str, TaskReport] = {}
        self.former: dict[str, TaskReport] = {}
        """The reports from before a restart, until the supernode follows a statement again. By the Task's UID."""
        self.peers: dict[str, PeerReport] = {}
        self.connected: frozenset[str] = frozenset()
        self.epoch = 0
        """The greatest epoch of a statement that the supernode has accepted."""
        self._stated: dict[str, int] = {}
        """By a Task's UID: the revision of the first statement from which on all statements contain the Task."""
        self._ready: dict[str, Set[str]] = {}
        self._remembered: dict[str, tuple[str, Set[str]]] = {}

    def holders(self, uid: str) -> Set[str]:
        """The nodes that have the file of the Task ``uid`` at its path.

        After a restart of the supernode, a node's files are unknown until its peer reconnects. Until then, an older
        report counts.
        """
        report = self.reports.get(uid)
        attempt, remembered = self._remembered.get(uid, ("", frozenset[str]()))
        if report is None:
            return remembered
        ready = self._ready[uid]
        return ready | (remembered - self.connected) if report.attempt == attempt else ready

    def on_update(self, changes: Changes, table: NodeTable = _NO_NODES) -> tuple[set[str], bool]:
        """Store a report. Returns the UIDs of the Tasks it concerns, and whether the connected peers changed.

        ``table`` has the names in :attr:`Changes.nodes`.
        """
        restarted = changes.boot != self.boot or changes.full
        touched = set(self.reports) if restarted else set()
        touched |= {uid for uid, revision in self._stated.items() if self.revision < revision <= changes.revision}
        connected_before = self.connected
        if restarted:
            for uid, report in self.reports.items():
                self._remembered[uid] = (report.attempt, self.holders(uid))
            self.former |= self.reports
            self.reports.clear()
            self.peers.clear()
        if changes.revision and self.former:
            self.former.clear()
            self._ready = {uid: ready for uid, ready in self._ready.items() if uid in self.reports}
        self.boot, self.revision, self.reported = changes.boot, changes.revision, True
        self.epoch = max(self.epoch, changes.epoch)
        if restarted or changes.peers:
            self.peers.update({peer.name: peer for peer in changes.peers})
            self.connected = frozenset(name for name, peer in self.peers.items() if peer.connected)
        for report in changes.tasks:
            ready = table.parse(report.ready) if report.active is not None else frozenset(report.ready_peers)
            self.reports[report.uid], self._ready[report.uid] = msgspec.structs.replace(report, ready=""), ready
        touched.update(report.uid for report in changes.tasks)
        touched.update(changes.gone)
        for uid in changes.gone:
            self.forget(uid)
        peers_changed = self.connected != connected_before
        for uid in self._remembered.keys() & (self.reports.keys() if peers_changed else touched):
            if uid in self.reports:  # connected nodes report for themselves
                attempt, held = self._remembered[uid]
                self._remembered[uid] = (attempt, held - self.connected)
        return touched, peers_changed

    def report(self, uid: str, task_id: str) -> ReplicaReport | None:
        """The supernode's report on the Task ``uid``. ``None`` without one, or if it is about another content."""
        before_restart = uid not in self.reports
        report = self.former.get(uid) if before_restart else self.reports[uid]
        if report is None or report.task_id != task_id:
            return None
        ready = self._ready.get(uid, frozenset[str]())
        return ReplicaReport(report, ready, self.connected, bool(self.silent), before_restart, self._is_current(uid))

    def on_statement(self, uids: Iterable[str], revision: int) -> set[str]:
        """Note that the supernode accepted a statement with these Tasks. Returns those whose report is current now."""
        former, self._stated = self._stated, {uid: self._stated.get(uid, revision) for uid in uids}
        return {uid for uid in self._stated.keys() - former.keys() if self._is_current(uid)}

    def _is_current(self, uid: str) -> bool:
        return uid in self._stated and self._stated[uid] <= self.revision

    def add_holders(self, uid: str, holders: Set[str]) -> None:
        """Add nodes that have the file of the Task ``uid``, as known from a supernode that dropped the task."""
        if uid in self.reports:
            self._remembered[uid] = (self.reports[uid].attempt, (self.holders(uid) | holders) - self.connected)

    def forget(self, uid: str) -> None:
        """Drop all about a deleted Task."""
        for kept in (self.reports, self.former, self._ready, self._remembered):
            kept.pop(uid, None)


@dataclass(frozen=True, slots=True)
class TaskView:
    """What all supernodes report about one Task."""

    task_id: str
    stated: frozenset[str]
    """The supernodes whose statements contain the task."""
    report: TaskReport | None
    """The report that counts for the status. ``None`` without any."""
    holders: Set[str]
    """The nodes that have the file at its path."""
    away: str
    """Why no supernode can report now. Empty if one can."""


class SupernodeOverview:
    """All supernodes: which of them are members, and what they report."""

    def __init__(self) -> None:
        self.members: tuple[Member, ...] = ()
        self.views: dict[str, SupernodeView] = {}
        self.absent = "the supernodes are not known yet"
        """Why no supernode should run. Empty if one should."""
        self.complete = False
        """True once each supernode has reported or is unreachable. The operator sends no statement before."""
        self._membership: Membership | None = None
        self._released: set[str] = set()
        self._peers: dict[str, PeerReport] | None = None
        self._tables: dict[tuple[str, ...], NodeTable] = {}

    # Which supernodes exist.

    def set_replicas(self, found: ReplicasFound) -> bool:
        """Set the supernodes that should run. Returns True if the members changed.

        A supernode that should no longer run stays a member, marked as leaving, until :meth:`release`. While none
        should run, the members do not change, and keep their tasks.
        """
        former = self.members, self.absent
        self.absent = found.absent
        if found.staying:
            staying = {member.name: member for member in found.staying}
            self._released -= staying.keys()
            lingering = [member for member in found.lingering if member.name not in self._released]
            others = {member.name: member for member in (*lingering, *self.members)}
            leaving = (
                msgspec.structs.replace(others[name], leaving=True) for name in sorted(others.keys() - staying.keys())
            )
            self.members = (*found.staying, *leaving)
            for member in self.members:
                self.views.setdefault(member.name, SupernodeView())
        return (self.members, self.absent) != former

    def release(self, name: str) -> None:
        """Remove a leaving member."""
        view = self.views.pop(name)
        self.members = tuple(member for member in self.members if member.name != name)
        self._released.add(name)
        self._peers = None
        self._pass_holders_on({uid: view.holders(uid) for uid in view.reports})

    def membership(self, now: datetime) -> Membership | None:
        """The membership for the next statements. ``None`` for a single supernode without a name."""
        if all(not member.name for member in self.members):
            return None
        if self._membership is None or self._membership.members != self.members:
            # The revision must exceed those of earlier operators. No statement has a lower revision than its
            # membership.
            known = [view.revision for view in self.views.values()]
            known += [self._membership.revision] if self._membership is not None else []
            revision = max(int(now.timestamp() * 1000), *(each + 1 for each in known))
            self._membership = Membership(revision, self.members)
        return self._membership

    # What they report.

    def on_update(self, name: str, changes: Changes) -> tuple[set[str], bool]:
        """Store a report. Returns the UIDs of the Tasks it concerns, and whether its connected peers changed."""
        view = self.views[name]
        dropped = {uid: view.holders(uid) for uid in changes.gone}
        if changes.nodes not in self._tables:
            # Usually all supernodes have the same nodes. A few older tables serve sets that were not reported since.
            self._tables = {**dict(list(self._tables.items())[-3:]), changes.nodes: NodeTable(changes.nodes)}
        touched, peers_changed = view.on_update(changes, self._tables[changes.nodes])
        self._pass_holders_on(dropped)
        self._peers = None
        self._update_complete()
        return touched, peers_changed

    def on_statement(self, name: str, uids: Iterable[str], revision: int) -> set[str]:
        """Note that a supernode accepted a statement. Returns the UIDs of the Tasks whose move may have ended."""
        return self.views[name].on_statement(uids, revision) if name in self.views else set()

    def on_reachability(self, name: str, problem: str) -> None:
        """Note why a supernode cannot be reached. With an empty ``problem`` it can be reached again."""
        self.views[name].silent = problem
        self._peers = None
        self._update_complete()

    def forget(self, uid: str) -> None:
        """Drop all about a deleted Task."""
        for view in self.views.values():
            view.forget(uid)

    @property
    def epoch(self) -> int:
        """The greatest epoch that a supernode has accepted."""
        return max((view.epoch for view in self.views.values() if view.epoch < _MOST_EPOCH), default=0)

    @property
    def boots(self) -> tuple[str, ...]:
        """The boot IDs of all members. They differ after a supernode has restarted, joined or left."""
        return tuple(self.views[member.name].boot for member in self.members)

    @property
    def away(self) -> str:
        """Why no supernode can be reached. Empty if one can."""
        silent = [view.silent for view in self.views.values()]
        return self.absent or (silent[0] if silent and all(silent) else "")

    @property
    def peers(self) -> dict[str, PeerReport]:
        """All peers by name, as the reachable supernodes report them."""
        if self._peers is None:
            reachable = [view for view in self.views.values() if not view.silent] or list(self.views.values())
            self._peers = _merged(view.peers for view in reachable)
        return self._peers

    def task_view(self, uid: str, task_id: str, attempt: str) -> TaskView:
        """What the supernodes report about the Task ``uid`` with the content ``task_id`` and the newest ``attempt``."""
        owner = owner_among(task_id, [member.name for member in self.members if not member.leaving])
        views = self.views.items()
        reports = {name: report for name, view in views if (report := view.report(uid, task_id)) is not None}
        placement = place(None if self.absent else owner, reports, attempt)
        speaking = self.views.get(placement.counted or owner or "")
        return TaskView(
            task_id,
            stated=placement.stated,
            report=reports[placement.counted].report if placement.counted in reports else None,
            holders=self._holders(uid, placement, reports),
            away=self.absent or (speaking.silent if speaking is not None else ""),
        )

    def _holders(self, uid: str, placement: Placement, reports: dict[str, ReplicaReport]) -> Set[str]:
        if placement.counted not in reports:
            return _union(view.holders(uid) for view in self.views.values())
        attempt, counted = reports[placement.counted].report.attempt, self.views[placement.counted]
        others = [
            name for name, each in reports.items() if name != placement.counted and each.report.attempt == attempt
        ]
        if not others:
            return counted.holders(uid)
        known = _union(self.views[name].holders(uid) for name in others)
        return counted.holders(uid) | (known if placement.moving else known - counted.connected)

    def _pass_holders_on(self, dropped: Mapping[str, Set[str]]) -> None:
        """Add the nodes with the file of a dropped task to the views of all remaining supernodes. By the Task's UID."""
        for uid, holders in dropped.items():
            for view in self.views.values():
                view.add_holders(uid, holders)

    def _update_complete(self) -> None:
        views = self.views.values()
        self.complete |= any(view.reported for view in views) and all(view.reported or view.silent for view in views)


def _union(sets: Iterable[Set[str]]) -> Set[str]:
    """The union. A single set is not copied."""
    found = [each for each in sets if each]
    return reduce(operator.or_, found) if found else frozenset()


def _merged(all_peers: Iterable[dict[str, PeerReport]]) -> dict[str, PeerReport]:
    """Join the reports on each peer. It is connected if any supernode says so. Only supernodes' counts are added."""
    merged: dict[str, PeerReport] = {}
    for peers in all_peers:
        for name, report in peers.items():
            former = merged.get(name)
            merged[name] = report if former is None else _together(former, report)
    return merged


def _together(one: PeerReport, other: PeerReport) -> PeerReport:
    best = one if one.connected or not other.connected else other
    return msgspec.structs.replace(
        best,
        cache_bytes=max(one.cache_bytes, other.cache_bytes),
        tasks=one.tasks + other.tasks,
        uploads=max(one.uploads, other.uploads),
        succeeded=one.succeeded + other.succeeded,
        failed=one.failed + other.failed,
        pulls=_newest(one.pulls, other.pulls) if one.connected == other.connected else best.pulls,
        runtime=best.runtime or one.runtime or other.runtime,
    )


def _newest(one: dict[str, PullState], other: dict[str, PullState]) -> dict[str, PullState]:
    """The newest state of each image that two supernodes received from a node."""
    merged = one | other
    for key in one.keys() & other.keys():
        merged[key] = max(one[key], other[key], key=lambda each: (each.run, each.number, each.since, each.fetched))
    return merged
