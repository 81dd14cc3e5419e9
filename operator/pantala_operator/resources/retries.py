"""Decides when a failed pull, or a question that a registry refused, is tried again. Pure.

The table of reasons says what ends each failure: time, a change outside of the resource, or only a new spec.
"""

from typing import Final

from pantala_process.backoff import doubled
from pantala_protocol import reasons
from pantala_protocol.reasons import Retry

_LONGEST_PAUSE: Final = 300
"""The longest pause in seconds. It is also the pause after failures that end only by a change outside of the
resource."""


def pause(reason: str, tries: int, limit: int | None, backoff: int) -> int | None:
    """Seconds to wait after the failure number ``tries``. ``None``: another attempt is not allowed, or useless.

    ``limit``: the number of allowed retries. ``None``: any number. ``backoff``: the first pause, in seconds.
    """
    kind = reasons.of_image(reason).retry
    if kind is Retry.NEVER or (limit is not None and tries > limit):
        return None
    longest = max(_LONGEST_PAUSE, backoff)
    return longest if kind is Retry.LATER else int(doubled(backoff, longest, tries))
