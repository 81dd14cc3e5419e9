"""The routes for other supernodes: they only translate."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from pantala_protocol.membership import Member
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.http.access import Access
from pantala_supernode.http.messages import json_response, read_body, read_query
from pantala_supernode.http.operations import Detail, Operation, Problem
from pantala_supernode.replicas.client import Wish
from pantala_supernode.replicas.copies import Copies, EndedError, MisdirectedError
from pantala_supernode.replicas.decision import CopyReport

_PATIENCE = 30.0
"""Seconds in which another supernode has to take a piece."""


class Misdirected(msgspec.Struct, frozen=True):
    """The task belongs to another supernode."""

    error: Detail
    owner: Member


class ContentQuery(msgspec.Struct, frozen=True):
    """Which bytes of which content."""

    generation: str
    start: Annotated[int, Meta(ge=0, le=1 << 62)] = 0
    end: Annotated[int, Meta(ge=0, le=1 << 62)] | None = None
    """The byte behind the last one, of those that are there now; without it all are given, as they come."""


class CopiesAPI:
    """What supernodes ask each other."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def operations(self) -> tuple[Operation, ...]:
        """The table."""
        return (
            Operation(
                method="GET",
                path="/api/v1/copies/{task_id}",
                handler=self.report,
                access=Access.SUPERNODE,
                summary="What there is of a task's file",
                answers={200: CopyReport, 404: Problem},
            ),
            Operation(
                method="PUT",
                path="/api/v1/copies/{task_id}",
                handler=self.want,
                access=Access.SUPERNODE,
                summary="Want a task's file for another supernode, for a minute",
                answers={200: CopyReport, 421: Misdirected},
                body=Wish,
            ),
            Operation(
                method="GET",
                path="/api/v1/copies/{task_id}/content",
                handler=self.content,
                access=Access.SUPERNODE,
                summary="The bytes of a copy, as they come",
                answers={200: bytes, 404: Problem, 409: Problem},
                query=ContentQuery,
            ),
        )

    async def report(self, request: web.Request) -> web.Response:
        """What there is."""
        return json_response(self._copies.report(request.match_info["task_id"]))

    async def want(self, request: web.Request) -> web.Response:
        """Fetch it."""
        wish = await read_body(request, Wish)
        try:
            return json_response(self._copies.want(request.match_info["task_id"], wish))
        except ValueError as error:
            raise InvalidValueError(str(error)) from error
        except MisdirectedError as error:
            return json_response(Misdirected(Detail(error.name, str(error)), error.owner), error.status)

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Give the bytes; what cannot be given to its end is cut, so that it is not taken for all."""
        task_id, asked = request.match_info["task_id"], read_query(request, ContentQuery)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = self._copies.check(task_id, asked.generation, asked.start, asked.end)
        chunks = self._copies.content(task_id, asked.generation, asked.start, asked.end)
        try:
            await response.prepare(request)
            async for chunk in chunks:
                async with asyncio.timeout(_PATIENCE):
                    await response.write(chunk)
            await response.write_eof()
        except (EndedError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            await chunks.aclose()
        return response
