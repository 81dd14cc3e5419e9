"""What is logged of a request that cannot be read.

aiohttp quotes the line that it stumbles over, which may hold a token or a URL's query, in an error with a traceback.
Who reaches a port could fill the log with these.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

_LOGGER = logging.getLogger("aiohttp.server")


def quote_nothing() -> None:
    """From now on log such a request in one quiet line without a word of it."""
    _LOGGER.addFilter(_without_quotation)


def _without_quotation(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args = "a request could not be read (%s)", (type(error).__name__,)
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True
