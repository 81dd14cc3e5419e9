"""The data that the operator remembers about one object with images between two plans. A restart loses the data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from pantala_operator.plan.nodes import Trouble
from pantala_operator.plan.prefetch.inputs import ObservedImages, Orders, Pulls, RegistryAnswer
from pantala_operator.plan.prefetch.plan import PrefetchPlan
from pantala_operator.plan.prefetch.pulls import Snapshot, Step
from pantala_operator.plan.startup_taint import TaintVote
from pantala_operator.resources.api import TaskStatus
from pantala_operator.resources.prefetch import ImageKey, PrefetchStatus
from pantala_protocol.images import RuntimeState, WantedImage

_SURVEY = timedelta(seconds=30)
"""How long nodes have to report which blobs they have."""

S = TypeVar("S", PrefetchStatus, TaskStatus)


@dataclass
class PrefetchState(Generic[S]):
    """What is remembered about one ImagePrefetch, or about one Task with an image."""

    answers: dict[ImageKey, RegistryAnswer] = field(default_factory=dict)
    status: S | None = None
    """The status of the newest plan. The API server may not have it yet."""
    former: PrefetchStatus | None = None
    """A Task's :attr:`ImageDemand.former` for the next plan."""
    orders: Orders = field(default_factory=dict)
    pulls: Pulls | None = None
    """The reported pulls from which ``orders`` were planned. ``None``: this process has given no orders."""
    edited: bool = False
    """True if this process has seen an edit of the object that no earlier plan had seen."""
    images: tuple[WantedImage, ...] | None = None
    """The object's images for the statement. ``None``: not known yet."""
    secrets: tuple[str, ...] = ()
    vote: TaintVote | None = None
    surveyed: tuple[frozenset[str], datetime] | None = None
    """The digests that nodes should look up in their runtimes, and the time of that request."""
    wake_at: datetime | None = None
    snapshot: Snapshot | None = None
    """The newest snapshot of all pulls, for views that show each node."""
    late: Mapping[str, Trouble] = field(default_factory=dict)
    """The nodes that make too little progress."""

    @property
    def blobs(self) -> frozenset[str]:
        """The digests of all blobs that the registries named."""
        platforms = (each for answer in self.answers.values() for each in answer.resolved.platforms.values())
        return frozenset(blob.digest for blobs in platforms for blob in blobs)

    def ask_again(self) -> None:
        """Forget the answers without a digest, so that the registries are asked again."""
        self.answers = {image: answer for image, answer in self.answers.items() if answer.resolved.digest}

    def take(self, plan: PrefetchPlan[S], observed: ObservedImages, now: datetime) -> None:
        """Keep what the next plan needs."""
        self.status, self.former, self.secrets, self.vote = plan.status, plan.former, plan.secrets, plan.vote
        self.snapshot, self.late = plan.snapshot, plan.late
        waits = [at for at in (plan.wake_at, self._survey_ends(now)) if at is not None]
        self.wake_at = min(waits, default=None)
        orders = plan.orders.orders
        if orders is not None:
            self.orders = orders
            self.pulls = {task: observed.pulls[task] for task in orders if task in observed.pulls}
        if plan.orders.images is not None:
            self.images = plan.orders.images

    def late_with(self, task: str) -> dict[str, Trouble]:
        """The late nodes that lack the image of the Task with the name ``task``."""
        if self.snapshot is None:
            return {}
        keys, steps = [key for key, pin in self.snapshot.pins.items() if pin.task == task], self.snapshot.steps
        return {
            name: each for name, each in self.late.items() if any(steps[name][key] is not Step.READY for key in keys)
        }

    def may_cancel(self, *, edited: bool, reported: bool) -> bool:
        """True if running pulls may be cancelled before all nodes have reported.

        ``edited``: the object has an edit that no plan has seen. ``reported``: the supernodes have reported. Without an
        edit, a new process waits: a node that has not reported may have an image that it must keep.
        """
        self.edited |= edited
        return self.pulls is not None or (self.edited and reported)

    def merged(self, reported: Pulls) -> Pulls:
        """Join ``reported`` with the former reports of the nodes that have not reported again."""
        known = {task: {**pulls, **reported.get(task, {})} for task, pulls in (self.pulls or {}).items()}
        return {**reported, **known}

    def awaited_blobs(self, now: datetime) -> frozenset[str] | None:
        """The digests that nodes look up now, for the report of mode ``Plan``.

        ``None``: the time for their answers is over.
        """
        blobs = self.blobs
        if self.surveyed is None or self.surveyed[0] != blobs:
            self.surveyed = (blobs, now)
        return blobs if self._survey_ends(now) is not None else None

    def _survey_ends(self, now: datetime) -> datetime | None:
        until = self.surveyed[1] + _SURVEY if self.surveyed is not None else None
        return until if until is not None and until > now else None


def has_looked(runtime: RuntimeState | None, blobs: frozenset[str]) -> bool:
    """True if a node has reported on each of these blobs, or cannot report because its runtime does not answer."""
    if runtime is None:
        return False
    return blobs <= runtime.blobs.keys() or not (runtime.name or runtime.version)
