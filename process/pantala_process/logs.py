"""Logs: one JSON object a line on standard error, or coloured text where that is a terminal."""

import logging
import sys
from collections.abc import Mapping

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import Processor


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
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(least),  # makes a hidden line cheap
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
    logging.basicConfig(handlers=[handler], level=least, force=True)
    for name, level in (levels or {}).items():
        logging.getLogger(name).setLevel(level)
    hide_invalid_requests()


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
