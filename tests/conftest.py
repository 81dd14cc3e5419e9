"""How all tests run."""

import signal

import structlog

from tests.support.examples import load_profile

load_profile()

# A shell lets a job in the background ignore SIGINT. The programs that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
