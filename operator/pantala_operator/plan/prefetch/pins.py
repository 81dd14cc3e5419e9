"""The digest of each image: a tag is resolved once a run, so all nodes get the same image. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from pantala_operator.plan.prefetch.inputs import ImageDemand, RegistryAnswer
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.resources.api import Metadata
from pantala_operator.resources.prefetch import ImageKey, ImageStatus
from pantala_operator.resources.status import Obstacle
from pantala_protocol import image
from pantala_protocol.images import ImageBlob
from pantala_protocol.reasons import Reason
from pantala_protocol.registry import Resolved

_LONGEST_NAME: Final = 253
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Pin:
    """An image and its digest."""

    key: ImageKey
    digest: str = ""
    """The digest that nodes get; empty: not known yet."""
    task: str = ""
    """The name of the image's Task, and of its pulls; empty without a digest."""
    current: bool = False
    """The digest was resolved in this run. A digest of a former run stays on its nodes, but no other node gets it."""
    resolved: datetime | None = None
    latest: str = ""
    """The current digest of the tag, if it differs."""
    platforms: Mapping[str, tuple[ImageBlob, ...]] | None = None
    """The blobs of ``digest`` by platform; ``None``: not known."""
    asked: frozenset[str] = frozenset()
    """The platforms that ``platforms`` speaks of."""
    problem: Obstacle | None = None
    """Why the registry did not resolve it."""

    @property
    def reference(self) -> str:
        """The image with its digest, and with its tag if it has one: pods refer to it by the tag."""
        parsed = image.parse(self.key.reference)
        tag = f":{parsed.tag}" if parsed.tag else ""
        return f"{parsed.name}{tag}@{self.digest}"

    def blobs(self, platform: str) -> tuple[ImageBlob, ...] | None:
        """All blobs for a node of ``platform``; ``None``: not known, or the image is not made for it."""
        return None if self.platforms is None else self.platforms.get(self.key.platform or platform)

    def lacks(self, platform: str) -> bool:
        """Whether the image is known not to be made for a node of ``platform``."""
        own = self.key.platform or platform
        return self.platforms is not None and own in self.asked and own not in self.platforms


def resolve(
    demand: ImageDemand, run: Run, wanted: Iterable[ImageKey], answers: Mapping[ImageKey, RegistryAnswer]
) -> dict[ImageKey, Pin]:
    """The pins of the ``wanted`` images in ``run``."""
    former = {each.key: each for each in demand.former.images}
    found = (pin(key, former.get(key), answers.get(key), run, follow=demand.follows) for key in wanted)
    return {
        each.key: replace(each, task=task_name(demand.metadata, each.key, each.digest)) if each.digest else each
        for each in found
    }


def pin(key: ImageKey, former: ImageStatus | None, answer: RegistryAnswer | None, run: Run, *, follow: bool) -> Pin:
    """The digest of one image in ``run``; ``former`` is its status so far."""
    old = former if former is not None else ImageStatus(key.reference)
    digest, resolved, latest = old.digest, old.resolved_time, old.latest_digest
    current = bool(digest) and resolved is not None and run.started is not None and resolved >= run.started
    if not current:
        latest = ""
    found = answer.resolved if answer is not None else Resolved()
    problem = None
    if answer is not None and run.started is not None and answer.at >= run.started:
        moved = found.digest != digest and (resolved is None or answer.at > resolved)
        if found.digest and (not current or (follow and moved)):
            digest, resolved, current = found.digest, answer.at, True
        if found.digest:
            latest = "" if found.digest == digest else found.digest
        else:
            problem = _problem(key, found)
    if named := image.parse(key.reference).digest:
        digest, resolved, current, latest = named, run.started, run.started is not None, ""
    known = bool(found.digest) and found.digest == digest
    return Pin(
        key=key,
        digest=digest,
        current=current,
        resolved=resolved,
        latest=latest,
        platforms=found.platforms if known else None,
        asked=answer.platforms if answer is not None and known else frozenset(),
        problem=problem,
    )


def answer(found: Resolved, platforms: Iterable[str], asked: datetime, now: datetime, failures: int) -> RegistryAnswer:
    """The answer to a question of ``asked``; ``failures`` in a row came before it."""
    if found.digest:
        return RegistryAnswer(asked, found, frozenset(platforms))
    failed = msgspec.structs.replace(found, reason=found.reason or Reason.INVALID_ANSWER.value)
    return RegistryAnswer(now, failed, tries=failures + 1)


def task_name(metadata: Metadata, key: ImageKey, digest: str) -> str:
    """A valid name: always the same for the same object, image, platform and digest."""
    content = "\0".join((metadata.uid, *key, digest))
    suffix = hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]
    return f"{metadata.name[: _LONGEST_NAME - 1 - _DIGITS].rstrip('.-')}-{suffix}"


def size(blobs: Iterable[ImageBlob]) -> int:
    """Bytes of ``blobs``, each digest once."""
    return sum({blob.digest: blob.size for blob in blobs}.values())


def omissions(pins: Iterable[Pin], platform: str, budget: int | None) -> Mapping[ImageKey, Reason]:
    """The images that a node of ``platform`` does not get: not made for it, or beyond ``budget`` bytes in all.

    Images take their bytes in order; after one that does not fit, a smaller one may. Unknown sizes count as nothing.
    """
    held: dict[str, int] = {}
    omitted = {}
    for each in pins:
        added = {blob.digest: blob.size for blob in each.blobs(platform) or ()}
        if each.lacks(platform) or not _suits(each.key.platform, platform):
            omitted[each.key] = Reason.PLATFORM_MISSING
        elif budget is not None and sum((held | added).values()) > budget:
            omitted[each.key] = Reason.BUDGET_EXCEEDED
        else:
            held |= added
    return omitted


def _suits(wanted: str, own: str) -> bool:
    """Whether a node of platform ``own`` pulls an image for ``wanted``: a runtime takes its own platform only."""
    return not wanted or wanted.split("/")[:2] == own.split("/")[:2]


def _problem(key: ImageKey, found: Resolved) -> Obstacle:
    what = found.message or "The registry did not resolve the image"
    return Obstacle.of_image(found.reason, what if key.reference in what else f"{key.reference}: {what}")
