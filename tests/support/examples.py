"""How many examples hypothesis tries, by the profile that ``HYPOTHESIS_PROFILE`` names.

``thorough`` (the default) tries the same examples each time, so that a failure comes from the change and not from
chance. ``quick`` tries fewer of them, for ``make unit``. ``explore`` looks for new ones.
"""

import os

from hypothesis import settings

_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "thorough")
_SHARE = {"quick": 0.1, "thorough": 1.0, "explore": 20.0}


def examples(number: int) -> int:
    """The number of examples in this profile, for a test that needs ``number`` of them to be thorough."""
    return max(round(number * _SHARE[_PROFILE]), 5)


def load_profile() -> None:
    """Set hypothesis up for all tests. There are no deadlines: a busy machine is not an error."""
    settings.register_profile(
        _PROFILE, max_examples=examples(100), derandomize=_PROFILE != "explore", deadline=None, print_blob=True
    )
    settings.load_profile(_PROFILE)
