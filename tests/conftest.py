"""How all tests run."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples each time, so that a run says something of the change and nothing of chance. To look for new ones:
# HYPOTHESIS_PROFILE=explore make unit
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
