"""How all tests run."""

import os

import structlog
from hypothesis import settings

# The same examples each time, so that a run says something of the change and nothing of chance. To look for new ones:
# HYPOTHESIS_PROFILE=explore make unit
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# A traceback in a log is plain: as rich is there, structlog would show all variables, megabytes of pieces among them.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)
