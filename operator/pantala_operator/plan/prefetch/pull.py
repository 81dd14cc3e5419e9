"""One image on one node: what the node said of it, and what follows. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from itertools import pairwise
from typing import Final

from pantala_operator.plan.prefetch import reasons
from pantala_operator.plan.prefetch.reasons import ImageReason
from pantala_operator.resources.prefetch import Retry as RetryPolicy
from pantala_protocol.reasons import Retry

ONCE_LIMIT: Final = 6
"""Retries of ``completionPolicy: Once`` if ``spec.retry.limit`` says nothing."""
_LONGEST_PAUSE: Final = 300
"""Seconds; also the pause after failures that the world has to change for."""
_GRACE: Final = timedelta(seconds=30)
"""A node that does not say that its pull timed out is waited for that much longer."""
_EVICTION_WINDOW: Final = timedelta(hours=1)


class Phase(Enum):
    """What the node said."""

    PULLING = auto()
    READY = auto()
    FAILED = auto()
    GONE = auto()
    """It was there, and nobody here removed it."""


class Step(Enum):
    """What may happen next."""

    WAITING = auto()  # not begun
    ACTIVE = auto()  # being pulled
    READY = auto()  # there
    DUE = auto()  # failed, may be tried again now
    PAUSED = auto()  # failed, will be tried again
    FAILED = auto()  # failed for good, in this run
    EVICTED = auto()  # went twice within an hour: not pulled again in this run
    LEFT_OUT = auto()  # the node does not get it

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self in (Step.DUE, Step.PAUSED, Step.FAILED)

    @property
    def startable(self) -> bool:
        """Whether a pull may begin now."""
        return self in (Step.WAITING, Step.DUE)


@dataclass(frozen=True, slots=True)
class Pull:
    """What a node reported of one image."""

    phase: Phase
    since: datetime
    run: str = ""
    """The run whose order this answers; see :attr:`pantala_operator.plan.prefetch.run.Run.token`."""
    tries: int = 1
    """Pulls begun in that run."""
    fetched: int = 0
    """Bytes that came to the node for it in that run."""
    reason: str = ""
    message: str = ""
    gone: tuple[datetime, ...] = ()
    """When the runtime was found without it, oldest first."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What pulls are judged by."""

    run: str
    started: datetime
    retry: RetryPolicy
    limit: int | None
    """Retries; ``None``: for as long as it takes."""
    timeout: int
    """Seconds of one pull."""


def judged(pull: Pull, policy: Policy, now: datetime) -> Pull:
    """The pull as it counts: one that is silent for longer than it may take has failed."""
    if pull.phase is Phase.PULLING and now >= _patience(pull, policy):
        what = f"The node has said nothing of this pull for {policy.timeout} s"
        return replace(
            pull, phase=Phase.FAILED, since=_patience(pull, policy), reason=ImageReason.TIMEOUT, message=what
        )
    return pull


def step(pull: Pull | None, policy: Policy, now: datetime) -> Step:
    """What may happen next to ``pull``; ``None``: the node has not said anything of it."""
    if pull is None:
        return Step.WAITING
    pull = judged(pull, policy, now)
    match pull.phase:
        case Phase.READY:
            return Step.READY
        case Phase.PULLING:
            return Step.ACTIVE
        case Phase.GONE:
            return Step.EVICTED if evicted(pull, policy.started) else Step.WAITING
        case Phase.FAILED:
            if evicted(pull, policy.started):
                return Step.EVICTED
            if pull.run != policy.run:
                return Step.WAITING
            at = retry_at(pull, policy)
            return Step.FAILED if at is None else Step.DUE if at <= now else Step.PAUSED


def changes_at(pull: Pull, policy: Policy, now: datetime) -> datetime | None:
    """When :func:`step` changes though the node says nothing."""
    pull = judged(pull, policy, now)
    if pull.phase is Phase.PULLING:
        return _patience(pull, policy)
    return retry_at(pull, policy) if step(pull, policy, now) is Step.PAUSED else None


def retry_at(pull: Pull, policy: Policy) -> datetime | None:
    """When a failed pull may be tried again; ``None``: not in this run."""
    again = pause(pull.reason, pull.tries, policy.limit, policy.retry.backoff_seconds)
    return None if again is None else pull.since + again


def pause(reason: str, tries: int, limit: int | None, backoff: int) -> timedelta | None:
    """How long to wait after the failure number ``tries``; ``None``: trying again is over or pointless."""
    kind = reasons.advice(reason).retry
    if kind is Retry.NEVER or (limit is not None and tries > limit):
        return None
    longest = max(_LONGEST_PAUSE, backoff)
    # Doubling more than 32 times gives the longest pause in any case.
    growing = min(backoff << min(max(tries - 1, 0), 32), longest)
    return timedelta(seconds=longest if kind is Retry.LATER else growing)


def retries(pull: Pull, policy: Policy) -> bool:
    """Whether a ``pull`` that goes on, or begins now, follows one of this run that failed; not one of what went."""
    if pull.run != policy.run:
        return False
    if pull.phase is Phase.FAILED:
        return True
    gone = sum(at >= policy.started for at in pull.gone)
    return pull.phase is Phase.PULLING and pull.tries - 1 > gone


def evicted(pull: Pull, started: datetime) -> bool:
    """Whether the image went twice within an hour of the run that ``started`` then."""
    mine = [at for at in pull.gone if at >= started]
    return any(later - earlier <= _EVICTION_WINDOW for earlier, later in pairwise(mine))


def _patience(pull: Pull, policy: Policy) -> datetime:
    return pull.since + timedelta(seconds=policy.timeout) + _GRACE
