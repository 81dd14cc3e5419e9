"""What would be fetched, and what fits: bytes after layers that are shared or there already are left out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pantala_operator.plan.prefetch.pins import Blob, Pin
from pantala_operator.plan.prefetch.pull import Step
from pantala_operator.plan.prefetch.reasons import ImageReason
from pantala_operator.resources.prefetch import Forecast, ImageKey, NodeForecast, PullFailure

LISTED: Final = 50
"""Nodes that a status lists at most."""
_UNPACKED: Final = 2.5
"""Bytes on disk of an unpacked layer for each byte of the registry's; compressed layers stay beside them."""
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15} | {
    f"{unit}i": 1 << 10 * power for power, unit in enumerate("KMGTP", start=1)
}


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a node told of its runtime."""

    disk_free: int | None = None
    """Free bytes of the file system that images are on."""
    layers: frozenset[str] = frozenset()
    """Digests of blobs that it has."""
    pins: bool | None = None
    """Whether the runtime honours pinning; ``None``: not told."""


@dataclass(frozen=True, slots=True)
class Work:
    """One node, what it is, and how far its images are."""

    node: str
    platform: str
    steps: Mapping[ImageKey, Step]
    inventory: Inventory = Inventory()


def quantity(text: str) -> int:
    """Bytes of a quantity such as ``20Gi``. Raises :class:`ValueError`."""
    match = re.fullmatch(r"([0-9]+)([A-Za-z]*)", text)
    if match is None or match[2] not in _FACTORS:
        raise ValueError(f"{text!r} is no quantity of bytes; give a whole number with Ki, Mi, Gi, Ti or Pi")
    return int(match[1]) * _FACTORS[match[2]]


def size(blobs: Iterable[Blob]) -> int:
    """Bytes of ``blobs``, each digest once."""
    return sum({blob.digest: blob.size for blob in blobs}.values())


def omissions(pins: Iterable[Pin], platform: str, budget: int | None) -> Mapping[ImageKey, ImageReason]:
    """The images that a node of ``platform`` does not get: not made for it, or beyond ``budget`` bytes in all.

    The first ones come first; one that does not fit makes room for smaller ones. Unknown sizes count as nothing.
    """
    held: dict[str, int] = {}
    omitted = {}
    for pin in pins:
        added = {blob.digest: blob.size for blob in pin.blobs(platform) or ()}
        if pin.lacks(platform) or not _suits(pin.key.platform, platform):
            omitted[pin.key] = ImageReason.PLATFORM_MISSING
        elif budget is not None and sum((held | added).values()) > budget:
            omitted[pin.key] = ImageReason.BUDGET_EXCEEDED
        else:
            held |= added
    return omitted


def _suits(wanted: str, own: str) -> bool:
    """Whether a node of platform ``own`` pulls what was ``wanted``: a runtime takes its node's own platform only."""
    return not wanted or wanted.split("/")[:2] == own.split("/")[:2]


def forecast(works: Iterable[Work], pins: Mapping[ImageKey, Pin], left_out: Iterable[PullFailure]) -> Forecast:
    """The report of mode ``Plan``."""
    listed, registry = [], dict[str, int]()
    for work in works:
        missing = _missing(work, pins)
        registry |= missing
        listed.append(_node(work, _images(work, pins, missing), sum(missing.values())))
    listed.sort(key=lambda each: (-each.size, each.node))
    others = sorted(left_out, key=lambda each: (each.node, each.image))
    busy = [each for each in listed if each.images]
    return Forecast(
        size=sum(each.size for each in listed),
        registry_bytes=sum(registry.values()),
        nodes=tuple(busy[:LISTED]),
        left_out=tuple(others[:LISTED]),
        nodes_total=len(busy),
        left_out_total=len(others),
    )


def _missing(work: Work, pins: Mapping[ImageKey, Pin]) -> dict[str, int]:
    """The blobs that a node would fetch: not those it has, alone or in an image that is there."""
    there = set(work.inventory.layers)
    wanted: dict[str, int] = {}
    for key, step in work.steps.items():
        blobs = pins[key].blobs(work.platform) or ()
        if step is Step.READY:
            there.update(blob.digest for blob in blobs)
        elif step is not Step.LEFT_OUT:
            wanted |= {blob.digest: blob.size for blob in blobs}
    return {digest: length for digest, length in wanted.items() if digest not in there}


def _images(work: Work, pins: Mapping[ImageKey, Pin], missing: Mapping[str, int]) -> int:
    """How many a node does not have: a blob is missing, or it is not known of which blobs it is."""
    wanted = (key for key, step in work.steps.items() if step not in (Step.READY, Step.LEFT_OUT))
    known = (pins[key].blobs(work.platform) for key in wanted)
    return sum(blobs is None or any(blob.digest in missing for blob in blobs) for blobs in known)


def _node(work: Work, images: int, fetched: int) -> NodeForecast:
    free = work.inventory.disk_free
    after = None if free is None else free - fetched - int(fetched * _UNPACKED)
    return NodeForecast(work.node, fetched, images, free, after)
