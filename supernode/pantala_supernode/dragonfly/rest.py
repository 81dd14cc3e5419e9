"""Dragonfly's REST API (v0.3.1), with correct status codes. Handlers only convert between HTTP and method calls."""

from dataclasses import dataclass
from typing import TypeVar

import msgspec
from aiohttp import web

from pantala_process.http import json_response
from pantala_process.listening import client_address
from pantala_protocol import __version__
from pantala_supernode.dragonfly import models
from pantala_supernode.dragonfly.models import ErrorResponse, PeerInfo, PieceSource, TaskInfo
from pantala_supernode.dragonfly.peers import RegisteredPeers
from pantala_supernode.dragonfly.preheat import Preheat, PreheatManager
from pantala_supernode.dragonfly.service import DragonflyService
from pantala_supernode.dragonfly.wire import Code, Envelope, MalformedRequestError, PullRequest
from pantala_supernode.errors import EmptyValueError, RequestError
from pantala_supernode.http.access import Access, Handler
from pantala_supernode.http.operations import Operation, read_query, receive_body
from pantala_supernode.swarm.scheduler import Managers

S = TypeVar("S", bound=msgspec.Struct)

_MAX_BODY = 1024 * 1024
"""The most bytes of a body. Clients need not authenticate, and large bodies of many would take all memory."""

_STATUS = {
    Code.BAD_REQUEST: 400,
    Code.NOT_FOUND: 404,
    Code.CDN_FAILED: 409,
    Code.UNREACHABLE: 400,
    Code.NEEDS_AUTH: 400,
    Code.ASK_AGAIN: 503,
    Code.SYSTEM_ERROR: 503,
}
"""The HTTP status of each error code. A URL that the origin does not serve counts as a bad request."""


@dataclass(frozen=True, slots=True)
class RestAPI:
    """The operations of the REST API. All have the same ``access``."""

    managers: Managers
    service: DragonflyService
    peers: RegisteredPeers
    preheats: PreheatManager
    access: Access

    def operations(self) -> tuple[Operation, ...]:
        peer, task, pieces, preheat = "/peers/{id}", "/tasks/{id}", "/tasks/{id}/pieces", "/preheats/{id}"
        piece, preheats = pieces + "/{pieceRange}", "/preheats"
        m, add, bad_pull, busy = models, self._operation, (400, 404, 409, 503), (400, 409, 503)
        new_peer, new_task, preheated = m.PeerCreateResponse, m.TaskCreateResponse, (200, m.PreheatCreateResponse)
        done, gone, found, refused = (200, None), (204, None), (200, list[PieceSource]), (400, 404, 409)
        empty = "Read pieces and their providers; an empty list means none for now"
        return (
            add("GET", "/_ping", self.ping, "Check that the supernode answers", (200, str), (), aliased=False),
            add("GET", "/version", self.version, "Read the version", (200, m.VersionInfo), (), aliased=False),
            add(
                "POST", "/peers", self.create_peer, "Register a peer", (201, new_peer), (400, 503), m.PeerCreateRequest
            ),
            add("GET", "/peers", self.list_peers, "List peers", (200, list[PeerInfo]), (400,), query=m.PeerQuery),
            add("GET", peer, self.get_peer, "Read a peer", (200, PeerInfo), (404,)),
            add("DELETE", peer, self.delete_peer, "Delete a peer and its downloads", gone, (404, 409)),
            add("POST", "/tasks", self.create_task, "Start a download", (201, new_task), bad_pull, m.TaskCreateRequest),
            add("GET", task, self.get_task, "Read a task", (200, TaskInfo), (404,)),
            add("PUT", task, self.update_task, "Report a complete file", done, (400, 404), m.TaskUpdateRequest),
            add("DELETE", task, self.delete_task, "Delete a task and its downloads", gone, refused, query=m.TaskQuery),
            add("GET", pieces, self.get_pieces, empty, found, bad_pull, query=m.PieceQuery),
            add("PUT", piece, self.update_piece, "Report the result for a piece", done, refused, m.PieceUpdateRequest),
            add("POST", preheats, self.create_preheat, "Preheat a file", preheated, busy, m.PreheatCreateRequest),
            add("GET", preheats, self.list_preheats, "List preheats", (200, list[Preheat]), ()),
            add("GET", preheat, self.get_preheat, "Read a preheat", (200, Preheat), (404,)),
            add("DELETE", preheat, self.delete_preheat, "Delete a preheat", done, (404,)),
        )

    def _operation(
        self,
        method: str,
        path: str,
        handler: Handler,
        summary: str,
        success: tuple[int, object],
        errors: tuple[int, ...],
        body: type[msgspec.Struct] | None = None,
        *,
        query: type[msgspec.Struct] | None = None,
        aliased: bool = True,
    ) -> Operation:
        answers = dict([success]) | dict.fromkeys(errors, ErrorResponse)
        aliases = (f"/api/v1{path}",) if aliased else ()
        return Operation(method, path, _with_errors(handler), self.access, summary, answers, query, body, aliases)

    async def ping(self, _request: web.Request) -> web.Response:
        return web.Response(text="OK")

    async def version(self, _request: web.Request) -> web.Response:
        return json_response(models.VersionInfo(__version__))

    # Peers

    async def create_peer(self, request: web.Request) -> web.Response:
        body = await _read(request, models.PeerCreateRequest)
        return json_response(models.PeerCreateResponse(self.peers.register(body)), 201)

    async def list_peers(self, request: web.Request) -> web.Response:
        page = read_query(request, models.PeerQuery).filter()
        return json_response([PeerInfo.of(peer) for peer in self.managers.peers.list(page)])

    async def get_peer(self, request: web.Request) -> web.Response:
        return json_response(PeerInfo.of(self.managers.peers.known(_id(request))))

    async def delete_peer(self, request: web.Request) -> web.Response:
        self.peers.deregister(_id(request))
        return web.Response(status=204)

    # Tasks

    async def create_task(self, request: web.Request) -> web.Response:
        body = await _read(request, models.TaskCreateRequest)
        peer = self.managers.peers.known(body.peer) if body.peer else None
        answer = await self.service.registrations.register(body.registration(peer), client_address(request))
        if answer["code"] != Code.OK:
            return _refusal(answer)
        data = answer["data"]
        if peer is not None:
            self.peers.join(peer.name, data["taskId"], body.client)
        return json_response(models.TaskCreateResponse(data["taskId"], data["fileLength"], data["pieceSize"]), 201)

    async def get_task(self, request: web.Request) -> web.Response:
        return json_response(TaskInfo.of(self.managers.tasks.known(_id(request))))

    async def update_task(self, request: web.Request) -> web.Response:
        body = await _read(request, models.TaskUpdateRequest)
        self.peers.finish(body.peer, _id(request))
        return web.Response()

    async def delete_task(self, request: web.Request) -> web.Response:
        self.peers.delete_task(_id(request), full=read_query(request, models.TaskQuery).full)
        return web.Response(status=204)

    # Pieces

    async def get_pieces(self, request: web.Request) -> web.Response:
        """Give a client pieces: new pieces, and again the pieces that it has not reported."""
        query = read_query(request, models.PieceQuery)
        if not query.client:
            raise EmptyValueError("clientID is empty; give the ID of the client that requests pieces")
        self.managers.tasks.known(_id(request))
        answer = await self.service.pull(PullRequest(query.client, _id(request)))
        if answer["code"] in (Code.FINISHED, Code.WAIT):
            return json_response([])
        if answer["code"] != Code.CONTINUE:
            return _refusal(answer)
        return json_response([PieceSource.of(entry) for entry in answer["data"][: query.number]])

    async def update_piece(self, request: web.Request) -> web.Response:
        body = await _read(request, models.PieceUpdateRequest)
        self.peers.update_piece(_id(request), request.match_info["pieceRange"], body)
        return web.Response()

    # Preheats

    async def create_preheat(self, request: web.Request) -> web.Response:
        body = await _read(request, models.PreheatCreateRequest)
        return json_response(models.PreheatCreateResponse(self.preheats.create(body.registration()).id))

    async def list_preheats(self, _request: web.Request) -> web.Response:
        return json_response(list(self.preheats))

    async def get_preheat(self, request: web.Request) -> web.Response:
        return json_response(self.preheats.get(_id(request)))

    async def delete_preheat(self, request: web.Request) -> web.Response:
        self.preheats.delete(_id(request))
        return web.Response()


async def _read(request: web.Request, kind: type[S]) -> S:
    return models.read(await receive_body(request, most=_MAX_BODY), kind)


def _id(request: web.Request) -> str:
    return request.match_info["id"]


def _with_errors(handler: Handler) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            return _error(error.status, error.status, str(error))
        except MalformedRequestError as error:
            return _error(400, Code.BAD_REQUEST, str(error))

    return handle


def _refusal(answer: Envelope) -> web.Response:
    code = Code(answer["code"])
    return _error(_STATUS[code], code, answer.get("msg", ""))


def _error(status: int, code: int, message: str) -> web.Response:
    response = json_response(ErrorResponse(int(code), message), status)
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response
