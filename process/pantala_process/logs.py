"""Logs: one JSON object a line on standard error, or coloured text where that is a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping

import structlog
from structlog.typing import Processor

LogFilter = Callable[[logging.LogRecord], bool]


def configure(levels: Mapping[str, int] | None = None, filters: Mapping[str, LogFilter] | None = None) -> None:
    """Set up structlog, and send the standard library's records through it.

    ``levels`` and ``filters`` apply to the standard library's loggers of these names.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),  # a hidden line costs nothing
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for name, level in (levels or {}).items():
        logging.getLogger(name).setLevel(level)
    for name, keep in (filters or {}).items():
        logging.getLogger(name).addFilter(keep)
