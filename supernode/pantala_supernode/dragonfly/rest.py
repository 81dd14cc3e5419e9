"""Dragonfly's REST API (v0.3.1), with right status codes: routes only translate."""

from __future__ import annotations

import msgspec
from aiohttp import web

from pantala_protocol import __version__
from pantala_supernode.dragonfly import translation, wire
from pantala_supernode.dragonfly.models import (
    ErrorResponse,
    PeerCreateRequest,
    PeerCreateResponse,
    PeerInfo,
    PeerQuery,
    PieceInfo,
    PieceQuery,
    PieceUpdateRequest,
    PreheatCreateRequest,
    PreheatCreateResponse,
    PreheatInfo,
    TaskCreateRequest,
    TaskCreateResponse,
    TaskInfo,
    TaskQuery,
    TaskUpdateRequest,
    Version,
    read,
)
from pantala_supernode.dragonfly.preheat import PreheatManager
from pantala_supernode.dragonfly.service import Conversation
from pantala_supernode.dragonfly.visitors import Visitors
from pantala_supernode.dragonfly.wire import BadWordError, Code, Envelope
from pantala_supernode.errors import EmptyValueError, RequestError
from pantala_supernode.http.access import Access, Handler
from pantala_supernode.http.messages import json_response, read_query
from pantala_supernode.http.operations import Operation
from pantala_supernode.swarm.peer import PageFilter
from pantala_supernode.swarm.scheduler import Managers

_STATUS = {
    Code.BAD_REQUEST: 400,
    Code.NOT_FOUND: 404,
    Code.CDN_FAILED: 409,
    Code.UNREACHABLE: 400,
    Code.NEEDS_AUTH: 400,
    Code.ASK_AGAIN: 503,
    Code.SYSTEM_ERROR: 503,
}
"""The HTTP status of each error code. A URL that cannot be read is a bad request."""


class RefusedError(Exception):
    """The service refused a request with one of Dragonfly's codes."""

    def __init__(self, refusal: Envelope) -> None:
        super().__init__(refusal.get("msg", ""))
        self.code = Code(refusal["code"])


class RestAPI:
    """The operations; all have the one decision ``access``."""

    def __init__(
        self,
        managers: Managers,
        conversation: Conversation,
        visitors: Visitors,
        preheats: PreheatManager,
        *,
        access: Access,
    ) -> None:
        self._managers = managers
        self._conversation = conversation
        self._visitors = visitors
        self._preheats = preheats
        self.access = access

    def operations(self) -> tuple[Operation, ...]:
        """The table."""
        error = ErrorResponse
        add = self._operation
        return (
            add("GET", "/_ping", self.ping, "Whether the supernode answers", {200: str}, aliased=False),
            add("GET", "/version", self.version, "Which version it is", {200: Version}, aliased=False),
            add(
                "POST",
                "/peers",
                self.create_peer,
                "Register a peer",
                {201: PeerCreateResponse, 400: error, 503: error},
                body=PeerCreateRequest,
            ),
            add("GET", "/peers", self.list_peers, "List peers", {200: list[PeerInfo], 400: error}, query=PeerQuery),
            add("GET", "/peers/{id}", self.get_peer, "Tell of a peer", {200: PeerInfo, 404: error}),
            add(
                "DELETE",
                "/peers/{id}",
                self.delete_peer,
                "Forget a peer and its downloads",
                {204: None, 404: error, 409: error},
            ),
            add(
                "POST",
                "/tasks",
                self.create_task,
                "Begin a download",
                {201: TaskCreateResponse, 400: error, 404: error, 409: error, 503: error},
                body=TaskCreateRequest,
            ),
            add("GET", "/tasks/{id}", self.get_task, "Tell of a task", {200: TaskInfo, 404: error}),
            add(
                "PUT",
                "/tasks/{id}",
                self.update_task,
                "Tell that a peer has all of it",
                {200: None, 400: error, 404: error},
                body=TaskUpdateRequest,
            ),
            add(
                "DELETE",
                "/tasks/{id}",
                self.delete_task,
                "Delete a task and its downloads",
                {204: None, 400: error, 404: error, 409: error},
                query=TaskQuery,
            ),
            add(
                "GET",
                "/tasks/{id}/pieces",
                self.get_pieces,
                "Give a client pieces; none: nothing for now",
                {200: list[PieceInfo], 400: error, 404: error, 409: error, 503: error},
                query=PieceQuery,
            ),
            add(
                "PUT",
                "/tasks/{id}/pieces/{pieceRange}",
                self.update_piece,
                "Tell what became of a piece",
                {200: None, 400: error, 404: error, 409: error},
                body=PieceUpdateRequest,
            ),
            add(
                "POST",
                "/preheats",
                self.create_preheat,
                "Fetch a file ahead",
                {200: PreheatCreateResponse, 400: error, 409: error, 503: error},
                body=PreheatCreateRequest,
            ),
            add("GET", "/preheats", self.list_preheats, "List preheats", {200: list[PreheatInfo]}),
            add("GET", "/preheats/{id}", self.get_preheat, "Tell of a preheat", {200: PreheatInfo, 404: error}),
            add("DELETE", "/preheats/{id}", self.delete_preheat, "Forget a preheat", {200: None, 404: error}),
        )

    def _operation(
        self,
        method: str,
        path: str,
        handler: Handler,
        summary: str,
        answers: dict[int, object],
        *,
        query: type[msgspec.Struct] | None = None,
        body: type[msgspec.Struct] | None = None,
        aliased: bool = True,
    ) -> Operation:
        return Operation(
            method=method,
            path=path,
            handler=_with_errors(handler),
            access=self.access,
            summary=summary,
            answers=answers,
            query=query,
            body=body,
            aliases=(f"/api/v1{path}",) if aliased else (),
        )

    async def ping(self, _request: web.Request) -> web.Response:
        """The supernode answers."""
        return web.Response(text="OK")

    async def version(self, _request: web.Request) -> web.Response:
        """Which version it is."""
        return json_response(Version(__version__))

    # Peers

    async def create_peer(self, request: web.Request) -> web.Response:
        """Register a peer."""
        asked = read(await request.read(), PeerCreateRequest)
        address = translation.address(asked.ip)
        name = self._visitors.register(address=address, host=asked.host_name, port=asked.port, version=asked.version)
        return json_response(PeerCreateResponse(name), 201)

    async def list_peers(self, request: web.Request) -> web.Response:
        """One page of the peers."""
        asked = read_query(request, PeerQuery)
        page = PageFilter(asked.page_number, asked.page_size, tuple(asked.sort_keys), asked.direction)
        return json_response([translation.peer_info(peer) for peer in self._managers.peers.list(page)])

    async def get_peer(self, request: web.Request) -> web.Response:
        """One peer."""
        return json_response(translation.peer_info(self._managers.peers.known(_id(request))))

    async def delete_peer(self, request: web.Request) -> web.Response:
        """Forget a peer."""
        self._visitors.deregister(_id(request))
        return web.Response(status=204)

    # Tasks

    async def create_task(self, request: web.Request) -> web.Response:
        """Begin a download."""
        asked = read(await request.read(), TaskCreateRequest)
        peer = self._managers.peers.known(asked.peer) if asked.peer else None
        said = await self._conversation.register(translation.registration(asked, peer), _host(request))
        if said["code"] != Code.OK:
            raise RefusedError(said)
        data = said["data"]
        if peer is not None:
            self._visitors.join(peer.name, data["taskId"], asked.client)
        return json_response(TaskCreateResponse(data["taskId"], data["fileLength"], data["pieceSize"]), 201)

    async def get_task(self, request: web.Request) -> web.Response:
        """One task."""
        return json_response(translation.task_info(self._managers.tasks.known(_id(request))))

    async def update_task(self, request: web.Request) -> web.Response:
        """A peer has all of a task."""
        asked = read(await request.read(), TaskUpdateRequest)
        self._visitors.finish(asked.peer, _id(request))
        return web.Response()

    async def delete_task(self, request: web.Request) -> web.Response:
        """Delete a task."""
        asked = read_query(request, TaskQuery)
        self._visitors.delete_task(_id(request), full=asked.full)
        return web.Response(status=204)

    # Pieces

    async def get_pieces(self, request: web.Request) -> web.Response:
        """Give a client pieces, and those again that it did not report."""
        asked = read_query(request, PieceQuery)
        if not asked.client:
            raise EmptyValueError("clientID is empty: tell who asks for pieces")
        self._managers.tasks.known(_id(request))
        said = await self._conversation.pull(wire.Pull(asked.client, _id(request), wire.START, wire.INVALID, "", ""))
        if said["code"] in (Code.FINISHED, Code.WAIT):
            return json_response([])
        if said["code"] != Code.CONTINUE:
            raise RefusedError(said)
        return json_response([translation.piece_info(entry) for entry in said["data"][: asked.number]])

    async def update_piece(self, request: web.Request) -> web.Response:
        """A client tells what became of a piece."""
        asked = read(await request.read(), PieceUpdateRequest)
        self._visitors.update_piece(
            _id(request), request.match_info["pieceRange"], asked.source, asked.provider, asked.status, asked.result
        )
        return web.Response()

    # Preheats

    async def create_preheat(self, request: web.Request) -> web.Response:
        """Fetch a file ahead."""
        asked = read(await request.read(), PreheatCreateRequest)
        return json_response(PreheatCreateResponse(self._preheats.create(translation.preheat_order(asked)).id))

    async def list_preheats(self, _request: web.Request) -> web.Response:
        """All preheats."""
        return json_response([translation.preheat_info(preheat) for preheat in self._preheats])

    async def get_preheat(self, request: web.Request) -> web.Response:
        """One preheat."""
        return json_response(translation.preheat_info(self._preheats.get(_id(request))))

    async def delete_preheat(self, request: web.Request) -> web.Response:
        """Forget a preheat."""
        self._preheats.delete(_id(request))
        return web.Response()


def _id(request: web.Request) -> str:
    return request.match_info["id"]


def _host(request: web.Request) -> str:
    return (request.remote or "").removeprefix("::ffff:")


def _with_errors(handler: Handler) -> Handler:
    """Answer the handler's errors with Dragonfly's codes."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            return _error(error.status, error.status, str(error))
        except BadWordError as error:
            return _error(400, Code.BAD_REQUEST, str(error))
        except RefusedError as refused:
            return _error(_STATUS[refused.code], refused.code, str(refused))

    return handle


def _error(status: int, code: int, message: str) -> web.Response:
    response = json_response(ErrorResponse(int(code), message), status)
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response
