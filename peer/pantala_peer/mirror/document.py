"""A manifest or an index as it is served, and the digests that it names. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta

from pantala_peer.mirror.errors import MirrorError
from pantala_peer.mirror.permissions import Reach
from pantala_protocol import digest as digests
from pantala_protocol.registry import MAX_MANIFEST

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Document:
    """The very bytes."""

    digest: str
    """Of ``body``; true."""
    media_type: str
    body: bytes = field(repr=False)


class _Descriptor(msgspec.Struct):
    digest: str
    size: Annotated[int, Meta(ge=0, lt=1 << 53)]


class _Content(msgspec.Struct):
    manifests: list[_Descriptor] | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None


_DECODER = msgspec.json.Decoder(_Content)


def check(digest: str, media_type: str, body: bytes) -> Document:
    """The document if it is what its digest says. Raises :class:`MirrorError`."""
    try:
        expected = digests.parse(digest)
    except ValueError as error:
        raise MirrorError(str(error)) from None
    running = digests.new(expected.algorithm)
    running.update(body)
    if len(body) > MAX_MANIFEST or running.hexdigest() != expected.hex or not _MEDIA_TYPE.fullmatch(media_type):
        raise MirrorError(f"the supernode gave something else for the manifest {digest}; it is not passed on")
    return Document(digest, media_type, body)


def reached(document: Document) -> dict[str, Reach]:
    """The document itself, and all that it names; what cannot be read names nothing."""
    found = {document.digest: Reach(len(document.body))}
    try:
        content = _DECODER.decode(document.body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return found
    for descriptor in [*(content.manifests or ()), *(content.layers or ())]:
        found[descriptor.digest] = Reach(descriptor.size)
    if content.config is not None:
        found[content.config.digest] = Reach(content.config.size, is_config=True)
    return found
