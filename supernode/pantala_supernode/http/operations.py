"""Operations of an HTTP interface, and functions that read their bodies and queries.

Routes and the OpenAPI 3.1 document are made from the same operations.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from pantala_process.http import ErrorBody
from pantala_process.identity import TokenIdentity
from pantala_protocol import __version__
from pantala_protocol.rules.fields import decode
from pantala_supernode.errors import InvalidValueError, LateBodyError
from pantala_supernode.http.access import WITHOUT_TOKEN, Access, Guard, Handler

BODY_TIME, BODY_RATE = 30.0, 32 * 1024
"""The most seconds for a body, and the rate in bytes per second by which a long body gets more time."""

_PARAMETER = re.compile(r"{(\w+)}")
_REFERENCE = "#/components/schemas/{name}"


T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: its handler, its access, and the types for the OpenAPI document."""

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str
    answers: Mapping[int, Any]
    """The type of the body by status: a type for JSON, ``str`` for text, ``bytes`` for bytes, ``None`` for no body."""
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    aliases: tuple[str, ...] = ()
    """Other paths of the same operation."""


class HotRequest(NamedTuple):
    """A request to a hot route."""

    query: Mapping[str, str]
    body: bytes
    host: str
    """The client's address."""
    identity: TokenIdentity | None
    """The identity in the client's token, if the route needs one."""


class HotRoute(NamedTuple):
    """A route that the front serves."""

    method: str
    path: str
    handler: Callable[[HotRequest], object]
    """Returns an object to send as JSON, or a future of it. If the connection closes, the future is cancelled."""
    access: Access
    most_body: int = 0
    """The most bytes in a body. aiohttp serves requests with longer bodies."""


def mount(operations: Iterable[Operation], router: web.UrlDispatcher, guard: Guard) -> None:
    for operation in operations:
        for path in (operation.path, *operation.aliases):
            guard.add(router, operation.method, path, operation.handler, operation.access)


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document of ``operations``, with every status that they can answer."""
    listed = list(operations)
    kinds = _kinds(listed)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    known = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pantala's supernode",
            "version": __version__,
            "description": "The native API below /api/v1, and Dragonfly's REST API, at the root and below /api/v1.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "audience pantala"}},
        },
    }


def _kinds(operations: Iterable[Operation]) -> list[Any]:
    kinds: dict[str, Any] = {repr(ErrorBody): ErrorBody}
    for operation in operations:
        for kind in (operation.body, *operation.answers.values()):
            if kind not in (None, str, bytes):
                kinds[repr(kind)] = kind
    return list(kinds.values())


def _operation(operation: Operation, known: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}{re.sub(r'[^A-Za-z0-9]+', '-', operation.path).rstrip('-')}",
        "summary": operation.summary,
        "description": f"Access: {operation.access.value}.",
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": {str(status): _answer(status, kind, known) for status, kind in _answers(operation).items()},
        "security": [] if operation.access in WITHOUT_TOKEN else [{"token": []}],
    }
    if operation.body is not None:
        content = {"application/json": {"schema": known[repr(operation.body)]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _answers(operation: Operation) -> dict[int, Any]:
    """The operation's own answers, and the errors that any operation can answer, by status."""
    answers = dict(operation.answers)
    if operation.body is not None or operation.query is not None:
        answers.setdefault(400, ErrorBody)
    if operation.body is not None:
        answers.setdefault(408, ErrorBody)
        answers.setdefault(413, ErrorBody)
    if operation.access not in WITHOUT_TOKEN:
        answers |= {401: ErrorBody, 403: ErrorBody}
    return dict(sorted(answers.items()))


def _answer(status: int, kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if kind is str:
        answer["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif kind is bytes:
        answer["content"] = {"application/octet-stream": {}}
    elif kind is not None:
        answer["content"] = {"application/json": {"schema": known[repr(kind)]}}
    return answer


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[^{}/]+$"}}
        for name in _PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    (reference,), components = msgspec.json.schema_components([operation.query], ref_template="{name}")
    schema = components[reference["$ref"]]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _plain(part, components),
        }
        for name, part in schema["properties"].items()
    ]


def _plain(part: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        rest = {name: value for name, value in part.items() if name != "$ref"}
        return _plain(components[part["$ref"]], components) | rest
    return part


async def read_body(request: web.Request, kind: type[T]) -> T:
    """Read a JSON body as ``kind``. Raises what :func:`receive_body` raises."""
    return decode_body(await receive_body(request), kind)


async def receive_body(request: web.Request, *, most: int | None = None) -> bytes:
    """The body of a request. ``most``: the most bytes, if they are fewer than for other routes.

    Raises :class:`InvalidValueError` for a compressed body, :class:`LateBodyError`, and for a body that is too large an
    exception of aiohttp.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidValueError("the body is compressed; send it without Content-Encoding")
    seconds = BODY_TIME + (request.content_length or 0) / BODY_RATE
    try:
        async with asyncio.timeout(seconds):
            return await (request if most is None else request.clone(client_max_size=most)).read()
    except TimeoutError:
        raise LateBodyError(f"the body did not arrive within {seconds:.0f} s; send it faster") from None


def decode_body(body: bytes, kind: type[T]) -> T:
    """Read a JSON body as ``kind``. Raises :class:`InvalidValueError`."""
    try:
        return decode(body, kind)
    except ValueError as error:
        raise InvalidValueError(f"the body is not a valid {kind.__name__}: {error}") from error


def read_query(request: web.Request, kind: type[S]) -> S:
    """Read a query as ``kind``. Upper and lower case of keys do not matter. A list is a repeated key, or has commas.

    Raises :class:`InvalidValueError`.
    """
    values: dict[str, list[str]] = {}
    for name, text in request.query.items():
        values.setdefault(name.lower(), []).append(text)
    lists = {field.encode_name.lower() for field in msgspec.structs.fields(kind) if field.type == list[str]}
    single: Mapping[str, Any] = {
        name: [part for text in texts for part in text.split(",")] if name in lists else texts[-1]
        for name, texts in values.items()
    }
    try:
        return msgspec.convert(match_keys(single.items(), kind), kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"the query is not valid: {error}") from error


def match_keys(items: Iterable[tuple[str, Any]], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The items by key. A key that differs only by case from a field of ``kind`` becomes the name of the field."""
    names = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(kind)}
    return {names.get(name.lower(), name): value for name, value in items}
