"""Programs: an origin with scripted faults, how a CDN reads it, and when its process dies."""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass, fields
from typing import Any

from pantala_pieces.digests import PieceHash
from pantala_supernode.cdn.segments import Division
from testbed.origin import Behaviour

_NOISE = random.Random(0).randbytes(1024 * 1024)


@dataclass(frozen=True)
class Content:
    """A content of the origin. Two contents differ in their bytes, their tags and their times."""

    number: int
    size: int

    @property
    def etag(self) -> str:
        return f"content-{self.number}"

    @property
    def modified(self) -> float:
        return 1_700_000_000.0 + self.number

    @property
    def data(self) -> bytes:
        return self.read(0, self.size)

    def read(self, offset: int, length: int) -> bytes:
        base = self.number * 7919
        return _NOISE[base + offset : base + min(offset + length, self.size)]

    @property
    def sha256(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"


@dataclass(frozen=True)
class Kill:
    """The process dies once so many requests or so many bytes of body have arrived."""

    requests: int | None = None
    received: int | None = None

    def due(self, requests: int, received: int) -> bool:
        return requests >= (self.requests or 10**9) or (self.received is not None and received >= self.received)


@dataclass(frozen=True, repr=False)
class Program:
    """One origin and its faults, and how the CDN reads it."""

    contents: tuple[Content, ...]
    """All contents that the origin serves. It starts with the first."""
    script: tuple[Behaviour, ...]
    """How the first requests are answered, on whatever connections they arrive."""
    always: Behaviour
    """How the requests after them are answered."""
    pinned: Content | None
    piece_size: int
    division: Division
    connections: int
    places: int
    kills: tuple[Kill, ...]

    @property
    def served(self) -> tuple[Content, ...]:
        """The contents that the origin serves whole. If a smaller length is announced, HTTP ends the body there."""
        cuts = {how.announced for how in self.script if how.announced < 0}
        return (*self.contents, *(Content(c.number, max(c.size + cut, 0)) for c in self.contents for cut in cuts))

    def __repr__(self) -> str:
        plain = [f"{each.name}={getattr(self, each.name)}" for each in fields(self) if each.name not in _ANSWERS]
        usual = f"always={_differences(self.always, Behaviour())}"
        unusual = {n: found for n, how in enumerate(self.script) if (found := _differences(how, self.always))}
        return f"Program({', '.join([*plain, usual, *(f'request {n}: {found}' for n, found in unusual.items())])})"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(repr(self))


_ANSWERS = ("script", "always")


def _differences(how: Behaviour, usual: Behaviour) -> dict[str, object]:
    names = (each.name for each in fields(how))
    return {name: getattr(how, name) for name in names if getattr(how, name) != getattr(usual, name)}


@functools.lru_cache(maxsize=256)
def piece_digests(content: Content, size: int) -> dict[int, bytes]:
    """The digest of each piece."""
    return {number: PieceHash(content.read(number * size, size)).digest() for number in range(-(-content.size // size))}
