"""The routes for the operator, the peers and probes. The handlers only convert between HTTP and method calls."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from pantala_process.health import Health, Unhealthy, health_response
from pantala_process.http import ErrorBody, json_response
from pantala_process.identity import TokenIdentity
from pantala_process.listening import client_address
from pantala_protocol.console.progress import Progress
from pantala_protocol.rules.fields import Count, Id
from pantala_protocol.statement import Changes, Statement, StatementReceipt
from pantala_protocol.sync import SyncAnswer, SyncRequest
from pantala_supernode.errors import ForbiddenError, InvalidValueError
from pantala_supernode.http.access import IDENTITY, Access
from pantala_supernode.http.clients import MAX_EXCHANGE, ClientLimits, certified
from pantala_supernode.http.operations import (
    HotRequest,
    HotRoute,
    Operation,
    decode_body,
    read_body,
    read_query,
    receive_body,
)
from pantala_supernode.metrics import Metrics
from pantala_supernode.supernode import Supernode
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.sync.overview import Overview
from pantala_supernode.sync.server import SyncServer

_MAX_WAIT = 60.0


class ChangesQuery(msgspec.Struct, frozen=True):
    """The last report that the operator has, and how long to wait for the next one."""

    boot: Id = ""
    since: Count = 0
    wait: Annotated[float, Meta(ge=0, le=_MAX_WAIT)] = 0.0
    """How many seconds to wait for a change."""
    numbers: bool = False
    """True if reports may refer to nodes by number. Older operators do not set this."""


class NativeAPI:
    """The operations for the operator, the peers and probes."""

    def __init__(
        self,
        supernode: Supernode,
        feed: ChangeFeed,
        sync: SyncServer,
        overview: Overview,
        metrics: Metrics,
        limits: ClientLimits,
    ) -> None:
        self._supernode = supernode
        self._feed = feed
        self._sync = sync
        self._overview = overview
        self._metrics = metrics
        self._limits = limits

    def operations(self) -> tuple[Operation, ...]:
        health, changes, sync = {200: Health}, {200: Changes}, {200: SyncAnswer, 429: ErrorBody}
        ready, receipt = {**health, 503: Unhealthy}, {200: StatementReceipt, 409: ErrorBody}
        op, peer, api = Access.OPERATOR, Access.PEER, "/api/v1"
        return (
            Operation("GET", "/healthz", self.healthz, Access.OPEN, "Check that the process is alive", health),
            Operation("GET", "/readyz", self.readyz, Access.OPEN, "Check that requests can be answered", ready),
            Operation("PUT", f"{api}/statement", self.statement, op, "Set all desired tasks", receipt, body=Statement),
            Operation(
                "GET", f"{api}/changes", self.changes, op, "Read changes, or wait for one", changes, query=ChangesQuery
            ),
            Operation("GET", f"{api}/progress", self.progress, op, "Read the progress of downloads", {200: Progress}),
            Operation("POST", f"{api}/sync", self.sync, peer, "Send reports, and receive work", sync, body=SyncRequest),
        )

    async def healthz(self, _request: web.Request) -> web.Response:
        return health_response(())

    async def readyz(self, _request: web.Request) -> web.Response:
        """Answer 200 once the volume has been read."""
        return health_response(self.problems(), "Recovering")

    def problems(self) -> Sequence[str]:
        """The reasons why the supernode is not ready. Empty: it is ready."""
        return () if self._supernode.recovered else ("the supernode is still reading its volume",)

    async def statement(self, request: web.Request) -> web.Response:
        statement = await read_body(request, Statement)
        try:
            return json_response(self._supernode.state(statement))
        except ValueError as error:
            raise InvalidValueError(str(error)) from error

    async def changes(self, request: web.Request) -> web.Response:
        query = read_query(request, ChangesQuery)
        changes = self._feed.changes(boot=query.boot, since=query.since, wait=query.wait, numbers=query.numbers)
        return json_response(await changes)

    async def progress(self, _request: web.Request) -> web.Response:
        return json_response(await self._overview.progress())

    async def sync(self, request: web.Request) -> web.StreamResponse:
        client, address = certified(request), client_address(request)
        with self._limits.reserved(client or address, min(request.content_length or MAX_EXCHANGE, MAX_EXCHANGE)):
            body = await receive_body(request, most=MAX_EXCHANGE)
            await self._limits.turn(client)
        with self._limits.serving(client):
            answer = self._exchange(decode_body(body, SyncRequest), request.get(IDENTITY), address)
        return await self._limits.send(request, answer if isinstance(answer, SyncAnswer) else await answer)

    def hot_routes(self) -> tuple[HotRoute, ...]:
        return (HotRoute("POST", "/api/v1/sync", self._hot_sync, Access.PEER, most_body=MAX_EXCHANGE),)

    def _hot_sync(self, request: HotRequest) -> SyncAnswer | asyncio.Future[SyncAnswer]:
        return self._exchange(decode_body(request.body, SyncRequest), request.identity, request.host)

    def _exchange(
        self, message: SyncRequest, identity: TokenIdentity | None, host: str
    ) -> SyncAnswer | asyncio.Future[SyncAnswer]:
        """Answer an exchange of a peer. Refuse it with 403 if the peer's token names another node."""
        if identity is not None and identity.node != message.peer:
            text = f"the token is for node {identity.node!r}, but the peer is {message.peer!r}; check the peer's --name"
            raise ForbiddenError(text)
        self._metrics.exchanges.inc()
        try:
            return self._sync.begin(message, host)
        except ValueError as error:
            raise InvalidValueError(str(error)) from error
