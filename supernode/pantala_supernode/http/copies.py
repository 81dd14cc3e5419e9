"""The routes between replicas. The handlers only convert between HTTP and method calls."""

import asyncio

import msgspec
from aiohttp import web

from pantala_process.http import ErrorBody, ErrorDetail, json_response
from pantala_protocol.rules.fields import Count, Id
from pantala_protocol.statement import Member
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.http.access import Access
from pantala_supernode.http.operations import Operation, read_body, read_query
from pantala_supernode.replicas.client import SourceRequest
from pantala_supernode.replicas.copies import CopyEndedError, CopyServer, MisdirectedError
from pantala_supernode.replicas.decision import CopyReport

_WRITE_TIMEOUT = 30.0
"""The most seconds in which another replica must receive a piece. After that, the connection is closed."""


class MisdirectedBody(msgspec.Struct, frozen=True):
    """The body of an answer with 421: another replica owns the task."""

    error: ErrorDetail
    owner: Member


class ContentQuery(msgspec.Struct, frozen=True):
    """The query of a request for bytes: a generation and a range."""

    generation: Id
    start: Count = 0
    end: Count | None = None
    """The end of the range. All bytes before it must be there now. ``None``: all bytes are sent as they arrive."""


class CopiesAPI:
    """The operations for other replicas."""

    def __init__(self, copies: CopyServer) -> None:
        self._copies = copies

    def operations(self) -> tuple[Operation, ...]:
        path, access = "/api/v1/copies/{task_id}", Access.SUPERNODE
        known = {200: CopyReport, 404: ErrorBody}
        wanted = {200: CopyReport, 421: MisdirectedBody}
        content = {200: bytes, 404: ErrorBody, 409: ErrorBody}
        lease, read = (
            "Lease a task for a minute on behalf of another replica",
            "Read the bytes of a copy, as they arrive",
        )
        return (
            Operation("GET", path, self.report, access, "Report the copy of a task", known),
            Operation("PUT", path, self.want, access, lease, wanted, body=SourceRequest),
            Operation("GET", f"{path}/content", self.content, access, read, content, query=ContentQuery),
        )

    async def report(self, request: web.Request) -> web.Response:
        return json_response(self._copies.report(request.match_info["task_id"]))

    async def want(self, request: web.Request) -> web.Response:
        wanted = await read_body(request, SourceRequest)
        try:
            return json_response(self._copies.want(request.match_info["task_id"], wanted))
        except ValueError as error:
            raise InvalidValueError(str(error)) from error
        except MisdirectedError as error:
            return json_response(MisdirectedBody(ErrorDetail(error.name, str(error)), error.owner), error.status)

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Send bytes of a copy. If the copy ends early, abort the connection, so that the replica notices."""
        task_id, query = request.match_info["task_id"], read_query(request, ContentQuery)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = self._copies.check(task_id, query.generation, query.start, query.end)
        chunks = self._copies.content(task_id, query.generation, query.start, query.end)
        try:
            await response.prepare(request)
            async for chunk in chunks:
                async with asyncio.timeout(_WRITE_TIMEOUT):
                    await response.write(chunk)
            await response.write_eof()
        except (CopyEndedError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            await chunks.aclose()
        return response
