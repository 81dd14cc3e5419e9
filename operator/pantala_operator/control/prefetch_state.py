"""What is kept of one ImagePrefetch from one plan to the next, and lost when the operator ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pantala_operator.plan.prefetch.pins import Resolution
from pantala_operator.plan.prefetch.plan import PrefetchPlan
from pantala_operator.plan.prefetch.survey import Observed, Orders, Pulls
from pantala_operator.plan.prefetch.taint import Vote
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, PrefetchStatus
from pantala_protocol.images import WantedImage

_SURVEY = timedelta(seconds=30)
"""How long nodes have to say which blobs they have."""


@dataclass
class Memory:
    """One ImagePrefetch, or one Task that is planned as one."""

    resolutions: dict[ImageKey, Resolution] = field(default_factory=dict)
    status: PrefetchStatus | None = None
    """As planned last: nobody else writes it."""
    orders: Orders = field(default_factory=dict)
    pulls: Pulls | None = None
    """What the orders were made from; ``None``: this process has made none."""
    edited: bool = False
    """Whether this process was the first to see the spec as it is, or as it was."""
    images: tuple[WantedImage, ...] | None = None
    """As stated; ``None``: not known yet."""
    secrets: tuple[str, ...] = ()
    vote: Vote | None = None
    surveyed: tuple[frozenset[str], datetime] | None = None
    """The blobs that nodes were asked for, and since when."""
    wake_at: datetime | None = None

    def take(self, plan: PrefetchPlan, observed: Observed, now: datetime) -> None:
        """Remember what was planned from what was observed; what it wants of nodes is put together elsewhere."""
        self.status, self.secrets, self.vote = plan.status, plan.secrets, plan.vote
        waits = [at for at in (plan.wake_at, self.survey_ends(now)) if at is not None]
        self.wake_at = min(waits, default=None)
        if plan.orders is not None:
            self.orders = plan.orders
            self.pulls = {task: observed.pulls[task] for task in plan.orders if task in observed.pulls}

    def prompt(self, prefetch: ImagePrefetch, *, spoken: bool) -> bool:
        """Whether pulls that shall end are cut before all nodes are heard; ``spoken``: supernodes have said something.

        Who has an image shall keep it. An operator that starts anew learns that from the nodes, so that it does not
        hurry with what was stopped before; but what nobody has acted upon yet is not put off.
        """
        self.edited |= prefetch.status.observed_generation != prefetch.metadata.generation
        return self.pulls is not None or (self.edited and spoken)

    def recall(self, said: Pulls) -> Pulls:
        """What nodes ``said`` by now; of those that have not come back yet, what they said before."""
        known = {task: {**pulls, **said.get(task, {})} for task, pulls in (self.pulls or {}).items()}
        return {**said, **known}

    def survey(self, now: datetime) -> frozenset[str] | None:
        """Have nodes asked for the blobs of a forecast: which ones; ``None``: they have had the time to answer."""
        blobs = frozenset(
            blob.digest for each in self.resolutions.values() for found in each.platforms.values() for blob in found
        )
        if self.surveyed is None or self.surveyed[0] != blobs:
            self.surveyed = (blobs, now)
        return blobs if self.survey_ends(now) is not None else None

    def survey_ends(self, now: datetime) -> datetime | None:
        """Until when answers are waited for; ``None``: they are not."""
        until = self.surveyed[1] + _SURVEY if self.surveyed is not None else None
        return until if until is not None and until > now else None
