"""JSON bodies and queries, as msgspec types."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from pantala_supernode.errors import InvalidValueError

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


async def read_body(request: web.Request, kind: type[T]) -> T:
    """Read a JSON body. Raises :class:`InvalidValueError`."""
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValueError(f"the body is not a valid {kind.__name__}: {error}") from error


def read_query(request: web.Request, kind: type[S]) -> S:
    """Read a query. Keys match in any case. A list comes as several values or separated by commas.

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
    """Spell keys, which match in any case, as ``kind`` spells them."""
    names = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(kind)}
    return {names.get(name.lower(), name): value for name, value in items}
