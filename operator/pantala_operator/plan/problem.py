"""What keeps a Task from its goal and is seen before anything is asked of the supernode. Pure."""

from __future__ import annotations

from typing import NamedTuple

from pantala_protocol.reasons import Reason, Retry

SECRET_FORBIDDEN = "SecretForbidden"  # noqa: S105 - a reason's name


class Problem(NamedTuple):
    """A condition's reason, and a message that ends with what to do."""

    reason: str
    message: str
    final: bool = False
    """Only a new spec or a new request changes it, so that the Task counts as finished."""


def of(reason: Reason, what: str) -> Problem:
    """A problem of the protocol's closed list; what to do follows from the reason."""
    return Problem(reason.value, advise(what, reason.value), final=reason.retry is Retry.NEVER)


def advise(message: str, reason: str) -> str:
    """Put what to do behind a message, unless it says so already or nothing is known of the reason."""
    if reason not in Reason._value2member_map_:
        return message
    action = Reason(reason).action
    return message if message.endswith(action) else f"{message.rstrip('. ')}. {action}"


def ends(reason: str) -> bool:
    """Whether a lasting failure ends the Task: not while it is still tried, however rarely."""
    return reason not in Reason._value2member_map_ or Reason(reason).retry is not Retry.LATER
