"""What the operator knows of the supernodes: who there is, and what each said. Pure: it is told, it asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from pantala_operator.supernodes.placement import Placement, ReplicaReport, place
from pantala_operator.supernodes.replicas import Replicas
from pantala_protocol import membership
from pantala_protocol.images import PullState
from pantala_protocol.membership import Member, Membership
from pantala_protocol.statement import Changes, PeerReport, TaskReport


class SupernodeView:
    """What one supernode said, in this boot and, of nodes it has not met again yet, before."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self.boot = ""
        self.revision = 0
        """Of the statement in force there."""
        self.heard = False
        """Whether it has said which peers there are, and which tasks it has."""
        self.silent = ""
        """Why it cannot be asked, once that has lasted; empty: it can."""
        self.reports: dict[str, TaskReport] = {}
        self.former: dict[str, TaskReport] = {}
        """What it had before it started anew, until a statement is in force there again."""
        self.peers: dict[str, PeerReport] = {}
        self.connected: frozenset[str] = frozenset()
        self._remembered: dict[str, tuple[str, frozenset[str]]] = {}

    def holders(self, uid: str) -> frozenset[str]:
        """Nodes that have the file of the Task ``uid`` at its path, as far as is known.

        A supernode that restarted learns what a peer has when that peer is back; until then it counts what was known.
        """
        report = self.reports.get(uid)
        attempt, remembered = self._remembered.get(uid, ("", frozenset()))
        if report is None:
            return remembered
        ready = frozenset(report.ready_peers)
        return ready | (remembered - self.connected) if report.attempt == attempt else ready

    def hear(self, changes: Changes) -> tuple[set[str], bool]:
        """Take its word. Returns the UIDs of Tasks it concerns, and whether the set of peers changed."""
        anew = changes.boot != self.boot or changes.full
        touched = set(self.reports) if anew else set()
        former = self.connected
        if anew:
            for uid, report in self.reports.items():
                self._remembered[uid] = (report.attempt, self.holders(uid))
            self.former |= self.reports
            self.reports.clear()
            self.peers.clear()
        if changes.revision:
            self.former.clear()
        self.boot, self.revision, self.heard = changes.boot, changes.revision, True
        if anew or changes.peers:
            self.peers.update({peer.name: peer for peer in changes.peers})
            self.connected = frozenset(name for name, peer in self.peers.items() if peer.connected)
        self.reports.update({report.uid: report for report in changes.tasks})
        touched.update(report.uid for report in changes.tasks)
        touched.update(changes.gone)
        for uid in changes.gone:
            self.forget(uid)
        for uid in self._remembered.keys() & (touched if self.connected == former else self.reports.keys()):
            self._meet_again(uid)
        return touched, self.connected != former

    def word(self, uid: str, task_id: str) -> ReplicaReport | None:
        """What it says of the Task ``uid`` as long as that names ``task_id``."""
        anew = uid not in self.reports
        report = self.former.get(uid) if anew else self.reports[uid]
        if report is None or report.task_id != task_id:
            return None
        return ReplicaReport(report, self.connected, bool(self.silent), anew)

    def inherit(self, uid: str, holders: frozenset[str]) -> None:
        """Another supernode, that no longer has the Task ``uid``, knew of these nodes."""
        if uid in self.reports:
            self._remembered[uid] = (self.reports[uid].attempt, (self.holders(uid) | holders) - self.connected)

    def forget(self, uid: str) -> None:
        """The Task is gone."""
        self.reports.pop(uid, None)
        self.former.pop(uid, None)
        self._remembered.pop(uid, None)

    def _meet_again(self, uid: str) -> None:
        """Of nodes that are back it says itself who has the file, once it says anything of the Task."""
        if uid in self.reports:
            attempt, held = self._remembered[uid]
            self._remembered[uid] = (attempt, held - self.connected)


@dataclass(frozen=True, slots=True)
class TaskView:
    """How one Task stands with all supernodes."""

    stated: frozenset[str]
    """Those that it is stated to."""
    report: TaskReport | None
    """The report that counts."""
    holders: frozenset[str]
    """Nodes that have its file."""
    away: str
    """Why nobody can say more; empty: somebody can."""


class SupernodeOverview:
    """All of them."""

    def __init__(self) -> None:
        """Begin with none known."""
        self.members: tuple[Member, ...] = ()
        self.views: dict[str, SupernodeView] = {}
        self.absent = "nobody has said yet which supernodes there are"
        """Why there is none that stays; empty: there is one."""
        self.heard = False
        """Whether all that were there at first, and answer, have been heard; before, nothing is said to anybody."""
        self._membership: Membership | None = None
        self._released: set[str] = set()
        self._peers: dict[str, PeerReport] | None = None

    # Who there is.

    def settle(self, replicas: Replicas) -> bool:
        """Take who shall be there. Returns whether something changed.

        Who shall not be there any more leaves: it is a member until it is released. While none shall be there, what is
        stated to whom stays as it is.
        """
        former = self.members, self.absent
        self.absent = replicas.absent
        if replicas.staying:
            staying = {member.name: member for member in replicas.staying}
            self._released -= staying.keys()
            lingering = [member for member in replicas.lingering if member.name not in self._released]
            others = {member.name: member for member in (*lingering, *self.members)}
            leaving = (
                msgspec.structs.replace(others[name], leaving=True) for name in sorted(others.keys() - staying.keys())
            )
            self.members = (*replicas.staying, *leaving)
            for member in self.members:
                self.views.setdefault(member.name, SupernodeView())
        return (self.members, self.absent) != former

    def release(self, name: str) -> None:
        """A member that was leaving is gone."""
        view = self.views.pop(name)
        self.members = tuple(member for member in self.members if member.name != name)
        self._released.add(name)
        self._peers = None
        self._hand_on({uid: view.holders(uid) for uid in view.reports})

    def membership(self, now: datetime) -> Membership | None:
        """What is told of the members; ``None``: there is one, without a name, and nothing to be told."""
        if all(not member.name for member in self.members):
            return None
        if self._membership is None or self._membership.members != self.members:
            # Grows beyond that of an operator that ran before, too: no statement is older than its membership.
            known = [view.revision for view in self.views.values()]
            known += [self._membership.revision] if self._membership is not None else []
            revision = max(int(now.timestamp() * 1000), *(each + 1 for each in known))
            self._membership = Membership(revision, self.members)
        return self._membership

    # What they say.

    def hear(self, name: str, changes: Changes) -> tuple[set[str], bool]:
        """Take one's word. Returns the UIDs of Tasks it concerns, and whether the set of its peers changed."""
        view = self.views[name]
        gone = {uid: view.holders(uid) for uid in changes.gone}
        touched, peers_changed = view.hear(changes)
        self._hand_on(gone)
        self._peers = None
        self._begin()
        return touched, peers_changed

    def silence(self, name: str, reason: str) -> None:
        """One cannot be asked, or (empty ``reason``) can be asked again."""
        self.views[name].silent = reason
        self._peers = None
        self._begin()

    def forget(self, uid: str) -> None:
        """The Task is gone."""
        for view in self.views.values():
            view.forget(uid)

    @property
    def boots(self) -> tuple[str, ...]:
        """Changes whenever one of them starts anew, comes or goes."""
        return tuple(self.views[member.name].boot for member in self.members)

    @property
    def away(self) -> str:
        """Why none of them can be asked; empty: one can."""
        silent = [view.silent for view in self.views.values()]
        return self.absent or (silent[0] if silent and all(silent) else "")

    @property
    def peers(self) -> dict[str, PeerReport]:
        """All peers, by name, as those say that can be asked."""
        if self._peers is None:
            speaking = [view for view in self.views.values() if not view.silent] or list(self.views.values())
            self._peers = _merged(view.peers for view in speaking)
        return self._peers

    def standing(self, uid: str, task_id: str, attempt: str) -> TaskView:
        """How the Task ``uid`` stands, which names ``task_id`` and wants ``attempt``."""
        owner = membership.owner(task_id, [member.name for member in self.members if not member.leaving])
        words = {name: word for name, view in self.views.items() if (word := view.word(uid, task_id)) is not None}
        placement = place(None if self.absent else owner, words, attempt)
        asked = self.views.get(placement.counted or owner or "")
        return TaskView(
            stated=placement.stated,
            report=words[placement.counted].report if placement.counted in words else None,
            holders=self._holders(uid, placement, words),
            away=self.absent or (asked.silent if asked is not None else ""),
        )

    def _holders(self, uid: str, placement: Placement, words: dict[str, ReplicaReport]) -> frozenset[str]:
        if placement.counted not in words:
            return frozenset[str]().union(*(view.holders(uid) for view in self.views.values()))
        attempt, counted = words[placement.counted].report.attempt, self.views[placement.counted]
        others = [name for name, word in words.items() if name != placement.counted and word.report.attempt == attempt]
        if not others:
            return counted.holders(uid)
        told = frozenset[str]().union(*(self.views[name].holders(uid) for name in others))
        return counted.holders(uid) | (told if placement.moving else told - counted.connected)

    def _hand_on(self, held: dict[str, frozenset[str]]) -> None:
        """What one no longer has, those know who have it still."""
        for uid, holders in held.items():
            for view in self.views.values():
                view.inherit(uid, holders)

    def _begin(self) -> None:
        views = self.views.values()
        self.heard |= any(view.heard for view in views) and all(view.heard or view.silent for view in views)


def _merged(all_peers: Iterable[dict[str, PeerReport]]) -> dict[str, PeerReport]:
    """A peer is connected if it is with anybody. What supernodes count adds up; what the peer itself says does not."""
    merged: dict[str, PeerReport] = {}
    for peers in all_peers:
        for name, report in peers.items():
            former = merged.get(name)
            merged[name] = report if former is None else _together(former, report)
    return merged


def _together(one: PeerReport, other: PeerReport) -> PeerReport:
    seen = one if one.connected or not other.connected else other
    return msgspec.structs.replace(
        seen,
        cache_bytes=max(one.cache_bytes, other.cache_bytes),
        tasks=one.tasks + other.tasks,
        uploads=max(one.uploads, other.uploads),
        succeeded=one.succeeded + other.succeeded,
        failed=one.failed + other.failed,
        pulls=_newest(one.pulls, other.pulls) if one.connected == other.connected else seen.pulls,
        runtime=seen.runtime or one.runtime or other.runtime,
    )


def _newest(one: dict[str, PullState], other: dict[str, PullState]) -> dict[str, PullState]:
    """Of what two supernodes heard of each image that which the node said last."""
    merged = one | other
    for key in one.keys() & other.keys():
        merged[key] = max(one[key], other[key], key=lambda said: (said.run, said.number, said.since, said.fetched))
    return merged
