"""Chooses the image in an index that a node's platform can run, by containerd's rules. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

_PART = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_ALIASES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
"""Other names of architectures: the normal name and the implied variant. ``None``: the given variant stays."""
_USUAL = {("amd64", "v1"): "", ("arm64", "8"): "", ("arm64", "v8"): "", ("arm", ""): "v7"}
"""The normal spelling of variants with two spellings."""
_OLDEST_ARM = 5

T = TypeVar("T")


class Platform(NamedTuple):
    """An operating system and an architecture, normalised by :func:`normal`."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def parse(text: str) -> Platform:
    """Read ``os/architecture[/variant]``, e.g. ``linux/arm64``. Raises :class:`ValueError`."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"{text[:80]!r} is not a valid platform; use os/architecture or os/architecture/variant")
    return normal(*parts)


def normal(os: str, architecture: str, variant: str = "") -> Platform:
    """Normalise a platform: ``arm64``, ``aarch64`` and ``arm64/v8`` become the same :class:`Platform`."""
    os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
    architecture, implied = _ALIASES.get(architecture, (architecture, None))
    variant = variant if implied is None else implied
    if architecture == "arm" and variant.isdecimal():
        variant = f"v{variant}"
    return Platform(os, architecture, _USUAL.get((architecture, variant), variant))


def acceptable(wanted: Platform) -> tuple[Platform, ...]:
    """The platforms whose images run on ``wanted``, best first."""
    return wanted, *_lesser(*wanted)


def choose(wanted: Platform, images: Iterable[tuple[Platform | None, T]]) -> T | None:
    """The image for a node of platform ``wanted``.

    The best platform of :func:`acceptable` wins, then the first entry. An image without a platform comes last.
    """
    given = list(images)
    for platform in (*acceptable(wanted), None):
        for offered, image in given:
            if offered == platform:
                return image
    return None


def _lesser(os: str, architecture: str, variant: str) -> Iterator[Platform]:
    match architecture:
        case "amd64":
            for version in range(_number(variant) - 1, 0, -1):
                yield normal(os, "amd64", f"v{version}")
            yield Platform(os, "386")
        case "arm":
            for version in range(_number(variant) - 1, _OLDEST_ARM - 1, -1):
                yield Platform(os, "arm", f"v{version}")
        case "arm64":
            yield from _lesser_arm64(os, variant or "v8")
            yield from acceptable(Platform(os, "arm", "v8"))


def _lesser_arm64(os: str, variant: str) -> Iterator[Platform]:
    """The ARM64 variants that ``variant`` includes. v9.x includes v8.(x+5), because v9.0 followed v8.5."""
    major, minor = _number(variant), _number(variant.partition(".")[2])
    if major == 9:
        for lower in range(minor - 1, -1, -1):
            yield normal(os, "arm64", f"v9.{lower}" if lower else "v9")
        major, minor = 8, minor + 6
    if major == 8:
        for lower in range(minor - 1, -1, -1):
            yield normal(os, "arm64", f"v8.{lower}" if lower else "v8")


def _number(text: str) -> int:
    """The number at the start of ``text``, with or without ``v``, at most 99. 0: ``text`` has no number there."""
    match = re.match(r"v?([0-9]{1,2})(?![0-9])", text)
    return int(match[1]) if match else 0
