"""Answers: bodies, and the errors of Dragonfly's REST API in its words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from pantala_supernode.dragonfly.models import ErrorResponse
from pantala_supernode.dragonfly.wire import BadWordError, Code, Envelope
from pantala_supernode.errors import RequestError
from pantala_supernode.http.access import Handler

_STATUS = {
    Code.BAD_REQUEST: 400,
    Code.NOT_FOUND: 404,
    Code.CDN_FAILED: 409,
    Code.UNREACHABLE: 400,
    Code.NEEDS_AUTH: 400,
    Code.ASK_AGAIN: 503,
    Code.SYSTEM_ERROR: 503,
}
"""What an error in the words of Dragonfly's clients is in those of HTTP. A URL that cannot be read is a bad one."""

_RETRY_AFTER = {"Retry-After": "1"}


class RefusedError(Exception):
    """The conversation said no; with Dragonfly's code."""

    def __init__(self, said: Envelope) -> None:
        super().__init__(said.get("msg", ""))
        self.code = Code(said["code"])


def answered(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    """``handler``, whose errors are told in Dragonfly's words."""

    async def told(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            return _error(error.status, error.status, str(error))
        except BadWordError as error:
            return _error(400, Code.BAD_REQUEST, str(error))
        except RefusedError as refused:
            return _error(_STATUS[refused.code], refused.code, str(refused))

    return told


def _error(status: int, code: int, message: str) -> web.Response:
    said = answer(ErrorResponse(int(code), message), status)
    if status == 503:
        said.headers.update(_RETRY_AFTER)
    return said


def answer(message: object, status: int = 200) -> web.Response:
    """A JSON body."""
    return web.Response(status=status, body=msgspec.json.encode(message), content_type="application/json")
