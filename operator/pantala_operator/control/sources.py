"""Plans all SourcePolicies for the statement. There are few SourcePolicies, so each turn plans all of them."""

from datetime import datetime

from pantala_operator.control.guard import PlanGuard
from pantala_operator.control.writer import Writer
from pantala_operator.plan import sources
from pantala_operator.plan.sources import SourcePlan
from pantala_operator.watch.observation import Observation
from pantala_protocol.statement import SourceRule


class SourceController:
    """Keeps the rules for the supernodes, and the status of each SourcePolicy."""

    def __init__(self, observation: Observation, writer: Writer, guard: PlanGuard) -> None:
        self._observation = observation
        self._guard = guard
        self._writer = writer
        self._plans: dict[tuple[str, str], SourcePlan] = {}
        self.rules: tuple[SourceRule, ...] = ()
        """The rules of all valid policies, by name."""

    def turn(self, now: datetime) -> bool:
        """Plan all SourcePolicies. Returns True if their rules differ from the rules of the turn before."""
        policies = sorted(self._observation.sources.items.values(), key=lambda each: each.metadata.name)
        former, self._plans = self._plans, {}
        for each in policies:
            key = each.metadata.uid, each.metadata.resource_version
            with self._guard.planning(each, now):  # a policy without a plan allows nothing
                made = self._plans[key] = former.get(key) or sources.plan(each, now)
                self._writer.write(each, made.status)
        before, self.rules = self.rules, tuple(made.rule for made in self._plans.values() if made.rule is not None)
        return before != self.rules
