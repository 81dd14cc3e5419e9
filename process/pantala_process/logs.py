"""Logs: one JSON object a line on standard error, or coloured text on a terminal."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import Processor

_BURST, _RATE = 1000, 20
"""How many lines of one event are logged at once, and then in each second."""
_EVENTS = 1000
"""The most events whose lines are counted. Most events are constants in the code."""
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that JSON allows, and that end a line, control a terminal or change the direction of text."""


def configure(least: int = logging.INFO, levels: Mapping[str, int] | None = None) -> None:
    """Set up structlog, also for the standard library's ``logging``. Lines below the level ``least`` are hidden.

    ``levels`` maps names of loggers to levels of their own.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = structlog.processors.JSONRenderer(serializer=_json)
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(least),  # makes a hidden line cheap
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(FloodFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=least, force=True)
    for name, level in (levels or {}).items():
        logging.getLogger(name).setLevel(level)
    hide_invalid_requests()


class FloodFilter(logging.Filter):
    """Leaves out lines of an event that is logged too often. Otherwise, one client could fill the node's disk.

    The next line of the event has the number of lines that were left out. ``clock`` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._events: dict[tuple[str, int, str], tuple[float, float, int]] = {}
        """For each event: how many lines may still be logged, the time of the last line, how many were left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        fields = record.msg if isinstance(record.msg, dict) else {}
        key = (record.name, record.levelno, str(fields.get("event", record.msg))[:100])
        if key not in self._events and len(self._events) >= _EVENTS:
            self._events.clear()
        now = self._clock()
        room, at, left_out = self._events.get(key, (float(_BURST), now, 0))
        room = min(room + (now - at) * _RATE, float(_BURST))
        if room < 1:
            self._events[key] = room, now, left_out + 1
            return False
        self._events[key] = room - 1, now, 0
        if left_out and fields:
            fields["left_out"] = left_out
        return True


def _json(fields: Any, **options: Any) -> str:
    text = json.dumps(fields, ensure_ascii=False, **options)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def hide_invalid_requests() -> None:
    """Log a request that is not valid HTTP in one line without its text.

    aiohttp's own traceback quotes the request. It may hold a token, and any client could fill the log.
    """
    logging.getLogger("aiohttp.server").addFilter(_without_quotation)


def _without_quotation(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args = "rejected a request that is not valid HTTP (%s)", (type(error).__name__,)
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True
