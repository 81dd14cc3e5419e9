"""The answers to failed requests. The API port's front and aiohttp's application give the same answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from pantala_process.http import ErrorBody, ErrorDetail, json_response
from pantala_supernode.errors import RequestError
from pantala_supernode.http.access import AccessRefusedError

_log = structlog.get_logger(__name__)

INVALID_BODY = "the body does not match its Content-Length or Transfer-Encoding; correct the request and send it again"


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """The answer to a failed request, before it is encoded."""

    status: int
    reason: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> ErrorBody:
        return ErrorBody(ErrorDetail(self.reason, self.message))

    def response(self) -> web.Response:
        return json_response(self.body, self.status, **self.headers)


def failure_of(error: BaseException, method: str, path: str) -> ErrorAnswer:
    """The answer to a request whose handler raised ``error``. An unknown error is logged as a bug."""
    if isinstance(error, RequestError):
        return ErrorAnswer(error.status, error.name, str(error))
    if isinstance(error, AccessRefusedError):
        return ErrorAnswer(error.status, error.reason, str(error), error.headers)
    if isinstance(error, web.RequestPayloadError):
        return ErrorAnswer(400, "InvalidBody", INVALID_BODY)
    if isinstance(error, web.HTTPException):
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        text = error.reason + ". GET /openapi.json lists all routes" * (error.status in (404, 405))
        return ErrorAnswer(error.status, error.reason.replace(" ", ""), text, allowed)
    _log.error("a request failed because of a bug; please report it", method=method, path=path, exc_info=error)
    return ErrorAnswer(500, "InternalError", "the request failed because of a bug; see the supernode's log")
