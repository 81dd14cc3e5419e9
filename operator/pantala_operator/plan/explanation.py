"""Why a Task or an ImagePrefetch is not done: one cause for each reason, with evidence and the next step. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pantala_operator.plan.nodes import MAX_NODES, Trouble, moment
from pantala_operator.resources import conditions
from pantala_operator.resources.conditions import Condition, ConditionStatus
from pantala_operator.resources.status import PENDING, PROGRESSING, SUSPENDED
from pantala_protocol import reasons
from pantala_protocol.console.views import Cause, NodePhase, NodeView
from pantala_protocol.reasons import Reason

_NO_CAUSE: Final = frozenset({PROGRESSING, PENDING.reason, "Distributing", "Fetching", "Waiting"})
"""The reasons of conditions without a problem."""
_MAX_EVIDENCE: Final = 5


def causes(
    current: Iterable[Condition],
    nodes: Iterable[NodeView],
    *,
    source: Trouble | None = None,
    clocks: Mapping[str, int] | None = None,
    began: Mapping[str, float] | None = None,
) -> tuple[Cause, ...]:
    """The causes, the most general cause first. Empty if the object is Ready, or if nothing blocks it.

    ``source``: why the supernode gets too few bytes. ``clocks``: by how many seconds the clocks of nodes are ahead, for
    those that are wrong. ``began``: when conditions got a reason, for the reasons whose time is known. The time in a
    condition is older if only its reason has changed.
    """
    current = tuple(current)
    if conditions.is_true(current, "Ready"):
        return ()
    found: dict[str, Cause] = {}
    behind = [each for each in nodes if each.state in (NodePhase.LATE, NodePhase.FAILED)]
    by_reason = {each.reason: each for each in _of_nodes(behind)}
    of_source = [Cause(source.reason, source.message, source.action, since=source.since)] if source is not None else []
    for each in (*_of_conditions(current, by_reason.keys(), began or {}), *of_source, *by_reason.values()):
        found.setdefault(each.reason, each)
    unfinished = {each.name for each in nodes if each.state is not NodePhase.READY}
    for cause in _of_clocks({name: ahead for name, ahead in (clocks or {}).items() if name in unfinished}):
        found.setdefault(cause.reason, cause)
    return tuple(found.values())


def _of_conditions(
    current: tuple[Condition, ...], of_nodes: Iterable[str], began: Mapping[str, float]
) -> Iterator[Cause]:
    """The cause that the conditions name. Nothing if ``of_nodes`` explains the same reason in more detail."""
    ready = conditions.find(current, "Ready")
    if ready is None or ready.reason in _NO_CAUSE or ready.reason in set(of_nodes):
        return
    what, action = reasons.split(ready.message, ready.reason)
    if ready.reason == SUSPENDED:
        action = "Set spec.suspend to false, or run kubectl pantala resume."
    evidence = tuple(
        f"The condition {each.type} is {each.status} since {_time(each)}. Its reason is {each.reason}."
        for each in current
        if each.reason == ready.reason
        and each.type not in ("Ready", "Reconciling")
        and (each.type, each.status) != ("Stalled", ConditionStatus.FALSE)
    )
    since = began.get(ready.reason, ready.last_transition_time.timestamp())
    yield Cause(ready.reason, what, action, evidence, since=since)


def _of_nodes(behind: list[NodeView]) -> Iterator[Cause]:
    """One cause for each reason of late or failed nodes."""
    groups: dict[str, list[NodeView]] = {}
    for each in behind:
        groups.setdefault(each.reason, []).append(each)
    for reason, group in groups.items():
        first = group[0]
        others = f", and {len(group) - 1} more" if len(group) > 1 else ""
        times = [each.since for each in group if each.since is not None]
        yield Cause(
            reason,
            f"{first.name}{others}: {first.message}",
            first.action or reasons.action_of(reason),
            tuple(_sentence(each) for each in group[:_MAX_EVIDENCE]),
            tuple(each.name for each in group[:MAX_NODES]),
            min(times, default=None),
        )


def _of_clocks(clocks: Mapping[str, int]) -> Iterator[Cause]:
    if clocks:
        evidence = tuple(
            f"The clock of {name} is {abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'} the API server's clock."
            for name, ahead in sorted(clocks.items())[:_MAX_EVIDENCE]
        )
        what = f"The clocks of {len(clocks)} nodes are wrong" if len(clocks) > 1 else "The clock of a node is wrong"
        names = tuple(sorted(clocks)[:MAX_NODES])
        yield Cause(Reason.CLOCK_SKEWED, what, Reason.CLOCK_SKEWED.action, evidence, names)


def _sentence(node: NodeView) -> str:
    since = f" since {moment(node.since):%H:%M:%S}" if node.since else ""
    got = f" It has {node.bytes} bytes and gets {node.rate} bytes per second." if node.bytes or node.rate else ""
    return f"{node.name} is {node.state.value}{since}.{got}"


def _time(condition: Condition) -> str:
    return f"{condition.last_transition_time:%H:%M:%S}"
