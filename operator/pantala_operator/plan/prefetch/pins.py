"""Chooses the digest of each image. A tag is resolved once per run, so that all nodes get the same image. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from pantala_operator.plan.prefetch.inputs import ImageDemand, RegistryAnswer
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.resources.prefetch import ImageKey, ImageStatus, task_name
from pantala_operator.resources.status import Obstacle
from pantala_protocol import image, reasons
from pantala_protocol.images import ImageBlob
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.registry import Resolved

MAX_BLOBS: Final = 1000
"""The most blobs of an image for one platform. The largest permitted manifest has room for 35,000. But no runtime can
mount so many layers, and the operator keeps all blobs in memory and in statements."""


@dataclass(frozen=True, slots=True)
class Pin:
    """An image and the digest that it has in a run."""

    key: ImageKey
    digest: str = ""
    """The digest that nodes get. Empty if it is not known yet."""
    task: str = ""
    """The name of the image's Task, by which nodes also report its pulls. Empty without a digest."""
    current: bool = False
    """True if the digest was resolved in this run. A digest of a former run stays on nodes, but no further node gets
    it."""
    resolved: datetime | None = None
    latest: str = ""
    """The digest that the tag names now, if it differs from ``digest``."""
    platforms: Mapping[str, tuple[ImageBlob, ...]] | None = None
    """The blobs of ``digest``, by platform. ``None`` if not known."""
    asked: frozenset[str] = frozenset()
    """The platforms for which ``platforms`` is complete."""
    problem: Obstacle | None = None
    """Why the registry did not resolve the image, if so."""

    reference: str = ""
    """The image's reference with its tag and its digest, as the image's Task shows it."""
    ordered: str = ""
    """The reference in the orders of nodes. Pods may use the tag, so nodes must not set it to a former digest.
    So the tag is there only if the registry resolved it to this digest in this run, and has not moved or refused it
    since."""
    awaited: bool = False
    """True if the registry has not answered yet, or will be asked again soon."""
    lacking: bool = False
    """True if no node can start to pull the image, because this run does not know its digest or its needed blobs."""

    @property
    def blobs(self) -> frozenset[str]:
        """The digests of its blobs for all platforms."""
        return frozenset(blob.digest for blobs in (self.platforms or {}).values() for blob in blobs)


def resolve(
    demand: ImageDemand, run: Run, wanted: Iterable[ImageKey], answers: Mapping[ImageKey, RegistryAnswer]
) -> dict[ImageKey, Pin]:
    former = {each.key: each for each in demand.former.images}
    pins: dict[ImageKey, Pin] = {}
    for key in wanted:
        found = pin(key, former.get(key), answers.get(key), run, follow=demand.spec.follows)
        task = reference = ordered = ""
        awaited = found.problem is None or reasons.of_image(found.problem.reason).retry is Retry.SOON
        if found.digest:
            parsed = image.parse(key.reference)
            ordered = f"{parsed.name}@{found.digest}"
            reference = f"{parsed.name}:{parsed.tag}@{found.digest}" if parsed.tag else ordered
            ordered = reference if found.current and awaited and not found.latest else ordered
            task = task_name(demand.metadata, key, found.digest)
        pins[key] = replace(
            found,
            task=task,
            reference=reference,
            ordered=ordered,
            awaited=awaited,
            lacking=not found.current or (demand.itemized and found.platforms is None),
        )
    return pins


def pin(key: ImageKey, former: ImageStatus | None, answer: RegistryAnswer | None, run: Run, *, follow: bool) -> Pin:
    """Choose the digest of one image in ``run``. ``former`` is the image's last status."""
    old, found = former or ImageStatus(key.reference), answer.resolved if answer is not None else Resolved()
    digest, resolved, problem = old.digest, old.resolved_time, None
    current = bool(digest) and resolved is not None and run.started is not None and resolved >= run.started
    latest = old.latest_digest if current else ""
    if answer is not None and run.started is not None and answer.at >= run.started:
        moved = found.digest != digest and (resolved is None or answer.at > resolved)
        if found.digest and (not current or (follow and moved)):
            digest, resolved, current = found.digest, answer.at, True
        if found.digest:
            latest = "" if found.digest == digest else found.digest
        else:
            what = found.message or "The registry did not resolve the image"
            if key.reference not in what:
                what = f"{key.reference}: {what.removeprefix(f'{image.parse(key.reference).name}: ')}"
            problem = Obstacle.of_image(found.reason, what)
    if named := image.parse(key.reference).digest:
        digest, resolved, current, latest = named, run.started, run.started is not None, ""
    made = Pin(key=key, digest=digest, current=current, resolved=resolved, latest=latest, problem=problem)
    if answer is None or not found.digest or found.digest != digest:
        return made
    return replace(made, platforms=found.platforms, asked=answer.platforms)


def answer(found: Resolved, platforms: Iterable[str], asked: datetime, now: datetime, failures: int) -> RegistryAnswer:
    """Make a :class:`RegistryAnswer`. ``asked`` is the time of the question, after ``failures`` failures in a row."""
    if (most := max(map(len, found.platforms.values()), default=0)) > MAX_BLOBS:
        what = f"The image has {most} blobs for one platform. At most {MAX_BLOBS} are supported"
        found = Resolved(reason=Reason.INVALID_MANIFEST, message=what)
    if found.digest:
        return RegistryAnswer(asked, found, frozenset(platforms))
    failed = msgspec.structs.replace(found, reason=found.reason or Reason.INVALID_ANSWER)
    return RegistryAnswer(now, failed, tries=failures + 1)
