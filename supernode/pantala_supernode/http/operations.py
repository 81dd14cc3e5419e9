"""The operations of an HTTP interface as a table: what is mounted is what is documented."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from pantala_supernode.http.access import Access, Guard, Handler


class Detail(msgspec.Struct, frozen=True):
    """What went wrong."""

    reason: str
    message: str


class Problem(msgspec.Struct, frozen=True):
    """The error that every interface of Pantala answers."""

    error: Detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str
    answers: Mapping[int, Any] = field(default_factory=dict)
    """Status -> type of the JSON body; ``str``: plain text, ``bytes``: those, ``None``: no body."""
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    aliases: tuple[str, ...] = ()
    """Other paths of the same operation."""


def mount(operations: Iterable[Operation], router: web.UrlDispatcher, guard: Guard) -> None:
    """Put operations on an application's router."""
    for operation in operations:
        for path in (operation.path, *operation.aliases):
            guard.add(router, operation.method, path, operation.handler, operation.access)
