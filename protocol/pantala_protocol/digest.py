"""Digests as users write them: ``sha256:<hex>`` or ``sha512:<hex>``. Dragonfly's clients also use ``md5:<hex>``."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

HEX_LENGTH: Final = {"sha256": 64, "sha512": 128}
"""The algorithms that guarantee integrity, with the lengths of their digests."""
_DIGEST = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
_MD5 = re.compile(r"md5:([0-9a-f]{32})")


class Digest(msgspec.Struct, frozen=True):
    """The expected or known digest of a whole file."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def parse(text: str) -> Digest:
    """Read ``algorithm:hex``. Raises :class:`ValueError` for any other algorithm, length or case."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:140]!r} is not a valid digest. Give sha256: or sha512: and lower-case hex digits.")
    return Digest(match[1] or match[3], match[2] or match[4])


def parse_checksum(text: str) -> Digest:
    """Read a digest or an ``md5:`` checksum. MD5 detects accidental damage, but not manipulation.

    Raises :class:`ValueError`.
    """
    match = _MD5.fullmatch(text)
    return parse(text) if match is None else Digest("md5", match[1])


def new_checksum(algorithm: str) -> hashlib._Hash:
    """A hash for any digest that :func:`parse_checksum` reads. Raises :class:`ValueError`."""
    return hashlib.new("md5", usedforsecurity=False) if algorithm == "md5" else new(algorithm)


def new(algorithm: str) -> hashlib._Hash:
    """A hash for an algorithm in :data:`HEX_LENGTH`. Raises :class:`ValueError` for other algorithms."""
    if algorithm not in HEX_LENGTH:
        raise ValueError(f"{algorithm} does not guarantee integrity. Use sha256 or sha512.")
    return hashlib.new(algorithm)
