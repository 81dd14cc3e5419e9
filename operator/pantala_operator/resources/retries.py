"""Decides when a failed pull, or a question that a registry refused, is tried again. Pure.

The table of reasons says how each failure passes: by itself, by a change elsewhere, or by a new spec only.
"""

from typing import Final

from pantala_process.backoff import doubled
from pantala_protocol import reasons
from pantala_protocol.reasons import Retry

_LONGEST_PAUSE: Final = 300
"""The longest pause in seconds, and the pause after failures that pass only by a change elsewhere."""


def pause(reason: str, tries: int, limit: int | None, backoff: int) -> int | None:
    """Seconds to wait after the failure number ``tries``. ``None``: another attempt is not allowed, or useless.

    ``limit``: the number of allowed retries. ``None``: any number. ``backoff``: the first pause, in seconds.
    """
    kind = reasons.of_image(reason).retry
    if kind is Retry.NEVER or (limit is not None and tries > limit):
        return None
    longest = max(_LONGEST_PAUSE, backoff)
    return longest if kind is Retry.LATER else int(doubled(backoff, longest, tries))
