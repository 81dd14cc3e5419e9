"""Tags and what they name: resolved once a run, the same digest for all nodes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from pantala_operator.plan.prefetch import reasons
from pantala_operator.plan.prefetch.pull import pause
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.prefetch import ImageKey, ImageStatus
from pantala_protocol import image

LOOK_INTERVAL: Final = timedelta(minutes=10)
"""How often a tag is looked at again, to see whether it moved."""
_BACKOFF: Final = 5
"""Seconds: the first pause after a registry could not be asked."""


class Blob(NamedTuple):
    """A manifest, a configuration or a layer."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Resolution:
    """A registry's word on one image, through a supernode."""

    at: datetime
    digest: str = ""
    """Empty: it could not be told, for ``reason``."""
    platforms: Mapping[str, tuple[Blob, ...]] = field(default_factory=dict)
    """What a node of each platform has to fetch; one that the image is not made for has no entry."""
    asked: frozenset[str] = frozenset()
    """The platforms that were asked for."""
    reason: str = ""
    message: str = ""
    tries: int = 1
    """Failures in a row."""


@dataclass(frozen=True, slots=True)
class Pin:
    """An image and its digest."""

    key: ImageKey
    digest: str = ""
    """What nodes get; empty: not known yet."""
    current: bool = False
    """Whether the digest is of this run. One of a former run is kept where it is and not given to further nodes."""
    resolved: datetime | None = None
    latest: str = ""
    """What the tag names by now, if that is another digest."""
    platforms: Mapping[str, tuple[Blob, ...]] | None = None
    """The blobs of ``digest`` by platform; ``None``: not known."""
    asked: frozenset[str] = frozenset()
    """The platforms that ``platforms`` speaks of."""
    problem: Problem | None = None
    """Why the registry could not tell."""

    def blobs(self, platform: str) -> tuple[Blob, ...] | None:
        """What a node of ``platform`` has to fetch in all; ``None``: not known, or not made for it."""
        return None if self.platforms is None else self.platforms.get(self.key.platform or platform)

    def lacks(self, platform: str) -> bool:
        """Whether the image is known not to be made for a node of ``platform``."""
        own = self.key.platform or platform
        return self.platforms is not None and own in self.asked and own not in self.platforms


def pin(key: ImageKey, former: ImageStatus | None, seen: Resolution | None, run: Run, *, follow: bool) -> Pin:
    """The digest of one image in ``run``; ``former`` is what its status said before."""
    named = image.parse(key.reference).digest
    digest = former.digest if former is not None else ""
    resolved = former.resolved_time if former is not None else None
    latest = former.latest_digest if former is not None else ""
    current = bool(digest) and resolved is not None and run.started is not None and resolved >= run.started
    if not current:
        latest = ""
    heard = seen is not None and run.started is not None and seen.at >= run.started
    if seen is not None and heard and seen.digest:
        if not current or (follow and seen.digest != digest and (resolved is None or seen.at > resolved)):
            digest, resolved, current = seen.digest, seen.at, True
        latest = "" if seen.digest == digest else seen.digest
    if named:
        digest, resolved, current, latest = named, run.started, run.started is not None, ""
    known = seen is not None and bool(seen.digest) and seen.digest == digest
    return Pin(
        key=key,
        digest=digest,
        current=current,
        resolved=resolved,
        latest=latest,
        platforms=seen.platforms if seen is not None and known else None,
        asked=seen.asked if seen is not None and known else frozenset(),
        problem=_problem(key, seen) if heard and seen is not None and not seen.digest else None,
    )


def ask_at(pin: Pin, seen: Resolution | None, run: Run, platforms: frozenset[str], *, watch: bool) -> datetime | None:
    """When the registry shall be asked of ``platforms``; ``None``: not again.

    ``watch``: whether a tag that moves matters.
    """
    if run.started is None:
        return None
    if seen is None or seen.at < run.started:
        return run.started
    if not seen.digest:
        again = pause(seen.reason, seen.tries, None, _BACKOFF)
        return None if again is None else seen.at + again
    if not platforms <= seen.asked:
        return seen.at
    return seen.at + LOOK_INTERVAL if watch and not image.parse(pin.key.reference).digest else None


def _problem(key: ImageKey, seen: Resolution) -> Problem:
    what = seen.message or "The registry could not tell what it is"
    return reasons.problem(seen.reason, what if key.reference in what else f"{key.reference}: {what}")
