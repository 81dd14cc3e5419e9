"""The native API: routes only translate."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from pantala_pieces.server import error_response
from pantala_protocol.statement import Changes, Statement, StatementReceipt
from pantala_protocol.sync import SyncAnswer, SyncRequest
from pantala_supernode.errors import InvalidValueError
from pantala_supernode.http.access import IDENTITY, Access
from pantala_supernode.http.messages import json_response, read_body, read_query
from pantala_supernode.http.operations import Operation, Problem
from pantala_supernode.metrics import Metrics
from pantala_supernode.supernode import Supernode
from pantala_supernode.sync.exchange import Exchange
from pantala_supernode.sync.reports import Reports

_MAX_WAIT = 60.0
"""Seconds that ``changes`` is held at most."""


class ChangesQuery(msgspec.Struct, frozen=True):
    """Since when, and how long it is waited for something."""

    boot: str = ""
    since: Annotated[int, Meta(ge=0)] = 0
    wait: Annotated[float, Meta(ge=0, le=_MAX_WAIT)] = 0.0
    """Seconds."""


class Health(msgspec.Struct, frozen=True):
    """All is well."""

    status: str = "ok"


class API:
    """Operator's, peers' and probes' routes of one supernode."""

    def __init__(self, supernode: Supernode, reports: Reports, exchange: Exchange, metrics: Metrics) -> None:
        self._supernode = supernode
        self._reports = reports
        self._exchange = exchange
        self._metrics = metrics

    def operations(self) -> tuple[Operation, ...]:
        """The table."""
        return (
            Operation(
                method="GET",
                path="/healthz",
                handler=self.healthz,
                access=Access.OPEN,
                summary="Whether the process lives",
                answers={200: Health},
            ),
            Operation(
                method="GET",
                path="/readyz",
                handler=self.readyz,
                access=Access.OPEN,
                summary="Whether it can do its work now",
                answers={200: Health, 503: Problem},
            ),
            Operation(
                method="PUT",
                path="/api/v1/statement",
                handler=self.statement,
                access=Access.OPERATOR,
                summary="State the full set of wanted tasks",
                answers={200: StatementReceipt},
                body=Statement,
            ),
            Operation(
                method="GET",
                path="/api/v1/changes",
                handler=self.changes,
                access=Access.OPERATOR,
                summary="Tell what changed, or wait for it",
                answers={200: Changes},
                query=ChangesQuery,
            ),
            Operation(
                method="POST",
                path="/api/v1/sync",
                handler=self.sync,
                access=Access.PEER,
                summary="One exchange with a peer",
                answers={200: SyncAnswer},
                body=SyncRequest,
            ),
        )

    async def healthz(self, _request: web.Request) -> web.Response:
        """The process lives."""
        return json_response(Health())

    async def readyz(self, _request: web.Request) -> web.Response:
        """The volume was read and requests are taken."""
        if self._supernode.recovered:
            return json_response(Health())
        return error_response(503, "Recovering", "the volume is being read")

    async def statement(self, request: web.Request) -> web.Response:
        """Take the full set of what is wanted."""
        statement = await read_body(request, Statement)
        try:
            return json_response(self._supernode.state(statement))
        except ValueError as error:
            raise InvalidValueError(str(error)) from error

    async def changes(self, request: web.Request) -> web.Response:
        """Tell what changed, or wait for it."""
        asked = read_query(request, ChangesQuery)
        return json_response(await self._reports.changes(boot=asked.boot, since=asked.since, wait=asked.wait))

    async def sync(self, request: web.Request) -> web.Response:
        """One exchange of a peer; the peer is the node that its token names."""
        message = await read_body(request, SyncRequest)
        identity = request.get(IDENTITY)
        if identity is not None and identity.node != message.peer:
            return error_response(403, "Forbidden", f"the token is of node {identity.node!r}, not of {message.peer!r}")
        self._metrics.exchanges.inc()
        try:
            return json_response(await self._exchange.sync(message, request.remote or ""))
        except ValueError as error:
            raise InvalidValueError(str(error)) from error
