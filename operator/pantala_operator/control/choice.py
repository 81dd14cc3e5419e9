"""What follows for Tasks from what is known at one moment: how they stand, and their nodes."""

from __future__ import annotations

import msgspec

from pantala_operator.plan import statement, target
from pantala_operator.plan.target import Targets
from pantala_operator.resources.api import TaskResource
from pantala_operator.supernodes.view import TaskView
from pantala_operator.watch.observation import Observation


class TargetChoice:
    """At one moment; most Tasks want the same nodes, which are chosen once."""

    def __init__(self, observation: Observation) -> None:
        """``observation`` must not change while this is used."""
        self._known = observation
        self._peers = observation.peer_states()
        self._made: dict[tuple[bytes, str, frozenset[str]], Targets] = {}
        self._standings: dict[str, TaskView] = {}

    def standing(self, each: TaskResource) -> TaskView:
        """What the supernodes say of one Task."""
        uid = each.metadata.uid
        if uid not in self._standings:
            named = statement.task_id_of(each, statement.origin(each, self._known.secret_of(each)))
            self._standings[uid] = self._known.supernodes.standing(uid, named, each.attempt)
        return self._standings[uid]

    def of(self, each: TaskResource) -> Targets:
        """The nodes of one Task."""
        if not each.spec.to_peers:
            return Targets()
        wish, uid = each.spec.target, each.metadata.uid
        holders = self.standing(each).holders
        limited = wish.count is not None or wish.percentage is not None
        key = (msgspec.json.encode(wish), uid if limited else "", holders)
        if key not in self._made:
            self._made[key] = target.choose(wish, uid, self._known.nodes.items, self._peers, holders)
        return self._made[key]
