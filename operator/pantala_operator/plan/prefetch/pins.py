"""The digest of each image: a tag is resolved once a run, so all nodes get the same image. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from pantala_operator.plan.prefetch.inputs import ImageDemand, RegistryAnswer
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.resources.prefetch import ImageKey, ImageStatus
from pantala_operator.resources.status import Obstacle
from pantala_protocol import image, reasons
from pantala_protocol.images import ImageBlob
from pantala_protocol.reasons import Reason, Retry
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

    reference: str = ""
    """The image with its digest, and with its tag if it has one: pods refer to it by the tag."""
    awaited: bool = False
    """The registry has not answered yet, or is asked again soon."""
    lacking: bool = False
    """No node can start with it: its digest or its needed blobs are not known in this run."""


def resolve(
    demand: ImageDemand, run: Run, wanted: Iterable[ImageKey], answers: Mapping[ImageKey, RegistryAnswer]
) -> dict[ImageKey, Pin]:
    """The pins of the ``wanted`` images in ``run``."""
    former = {each.key: each for each in demand.former.images}
    pins: dict[ImageKey, Pin] = {}
    for key in wanted:
        found = pin(key, former.get(key), answers.get(key), run, follow=demand.follows)
        task = reference = ""
        if found.digest:
            parsed = image.parse(key.reference)
            reference = f"{parsed.name}:{parsed.tag}@{found.digest}" if parsed.tag else f"{parsed.name}@{found.digest}"
            # The same object, image, platform and digest always give the same name.
            content = "\0".join((demand.metadata.uid, *key, found.digest))
            suffix = hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]
            task = f"{demand.metadata.name[: _LONGEST_NAME - 1 - _DIGITS].rstrip('.-')}-{suffix}"
        pins[key] = replace(
            found,
            task=task,
            reference=reference,
            awaited=found.problem is None or reasons.of_image(found.problem.reason).retry is Retry.SOON,
            lacking=not found.current or (demand.itemized and found.platforms is None),
        )
    return pins


def pin(key: ImageKey, former: ImageStatus | None, answer: RegistryAnswer | None, run: Run, *, follow: bool) -> Pin:
    """The digest of one image in ``run``; ``former`` is its status so far."""
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
            what = what if key.reference in what else f"{key.reference}: {what}"
            problem = Obstacle.of_image(found.reason, what)
    if named := image.parse(key.reference).digest:
        digest, resolved, current, latest = named, run.started, run.started is not None, ""
    made = Pin(key=key, digest=digest, current=current, resolved=resolved, latest=latest, problem=problem)
    if answer is None or not found.digest or found.digest != digest:
        return made
    return replace(made, platforms=found.platforms, asked=answer.platforms)


def answer(found: Resolved, platforms: Iterable[str], asked: datetime, now: datetime, failures: int) -> RegistryAnswer:
    """The answer to a question of ``asked``; ``failures`` in a row came before it."""
    if found.digest:
        return RegistryAnswer(asked, found, frozenset(platforms))
    failed = msgspec.structs.replace(found, reason=found.reason or Reason.INVALID_ANSWER.value)
    return RegistryAnswer(now, failed, tries=failures + 1)
