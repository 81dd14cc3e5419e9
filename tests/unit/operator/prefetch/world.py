"""A cluster in which an ImagePrefetch's plans are carried out, without Kubernetes, sockets or a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pantala_operator.plan.prefetch.children import Child
from pantala_operator.plan.prefetch.images import Surroundings
from pantala_operator.plan.prefetch.pins import Blob, Resolution
from pantala_operator.plan.prefetch.plan import PrefetchPlan, plan
from pantala_operator.plan.prefetch.pull import Phase, Pull
from pantala_operator.plan.prefetch.reach import Cluster, Pod
from pantala_operator.plan.prefetch.survey import Observed
from pantala_operator.plan.target import PeerState
from pantala_operator.resources.api import Metadata, Node, NodeSpec, Taint
from pantala_operator.resources.conditions import find
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ONE, TWO = "docker.io/library/one:1", "docker.io/library/two:2"
AMD64 = "linux/amd64"


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def prefetch(generation: int = 1, annotations: dict[str, str] | None = None, **spec: Any) -> ImagePrefetch:
    metadata = {
        "name": "web",
        "namespace": "ns",
        "uid": "u",
        "generation": generation,
        "creationTimestamp": "2025-12-31T23:00:00Z",
        "annotations": annotations or {},
    }
    wanted = {} if "images" in spec or "from" in spec else {"images": [{"image": "one:1"}, {"image": "two:2"}]}
    return msgspec.convert({"metadata": metadata, "spec": {**wanted, **spec}}, ImagePrefetch)


def node(name: str, *taints: Taint, created: datetime = NOW, **labels: str) -> Node:
    return Node(Metadata(name, creation_timestamp=created, labels=labels), NodeSpec(taints))


def cluster(*nodes: Node, pods: tuple[Pod, ...] = ()) -> Cluster:
    known = {each.metadata.name: each for each in nodes}
    return Cluster(known, dict.fromkeys(known, PeerState(connected=True)), pods)


def resolved(letter: str, at: datetime = NOW, length: int = 100, **changes: Any) -> Resolution:
    blobs = (Blob(digest(letter), length), Blob(digest("9"), 10))
    told = Resolution(at, digest(letter), {AMD64: blobs}, frozenset({AMD64}))
    return replace(told, **changes)


Outcome = Callable[[str, str, int], Pull | None]
"""What comes of a pull: of an image's Task's image, on a node, at this try; ``None``: nothing yet."""


@dataclass
class World:
    """Nodes that do as they are told, one step of the clock after the other."""

    each: ImagePrefetch
    cluster: Cluster
    registry: dict[str, Resolution] = field(default_factory=lambda: {ONE: resolved("a"), TWO: resolved("b")})
    outcome: Outcome = lambda _image, _node, _number: Pull(Phase.READY, NOW)
    around: Surroundings = field(default_factory=Surroundings)
    now: datetime = NOW
    heard: bool = True
    children: dict[str, Child] = field(default_factory=dict)
    pulls: dict[str, dict[str, Pull]] = field(default_factory=dict)
    resolutions: dict[ImageKey, Resolution] = field(default_factory=dict)
    latest: PrefetchPlan | None = None

    def observe(self) -> Observed:
        """What the operator sees."""
        return Observed(
            cluster=self.cluster,
            around=self.around,
            resolutions=dict(self.resolutions),
            children=tuple(self.children.values()),
            pulls={task: dict(pulls) for task, pulls in self.pulls.items()},
            orders=self.latest.orders if self.latest is not None and self.latest.orders is not None else {},
            heard=self.heard,
        )

    def plan(self) -> PrefetchPlan:
        """Plan once, and do what is to be done but for the pulls."""
        made = self.latest = plan(self.each, self.observe(), self.now)
        self.each = msgspec.structs.replace(self.each, status=made.status)
        for body in made.family.apply:
            name, source = body["metadata"]["name"], body["spec"]["source"]
            owner = body["metadata"]["ownerReferences"][0]["uid"]
            self.children[name] = Child(name, owner, source["image"], source.get("platform", ""))
        for name in made.family.delete:
            del self.children[name]
            self.pulls.pop(name, None)
        for question in made.questions:
            if (told := self.registry.get(question.key.reference)) is not None:
                self.resolutions[question.key] = replace(told, at=self.now)
        return made

    def work(self) -> None:
        """Nodes carry out their orders: begin those that are new, and end those they were at."""
        orders = self.latest.orders if self.latest is not None and self.latest.orders is not None else {}
        for task, given in orders.items():
            pulls = self.pulls.setdefault(task, {})
            for name, order in given.items():
                pull = pulls.get(name)
                if pull is not None and pull.phase is Phase.READY:
                    continue
                answered = pull is not None and (pull.run, pull.tries) == (order.run, order.number)
                if not answered:
                    gone = pull.gone if pull is not None else ()
                    pulls[name] = Pull(Phase.PULLING, self.now, order.run, order.number, gone=gone)
                elif pull is not None and pull.phase is Phase.PULLING:
                    self._end(task, name, pull)
            for name in [name for name, pull in pulls.items() if pull.phase is Phase.PULLING and name not in given]:
                del pulls[name]

    def _end(self, task: str, name: str, pull: Pull) -> None:
        came = self.outcome(self.children[task].image, name, pull.tries)
        if came is not None:
            self.pulls[task][name] = replace(
                came, since=self.now, run=pull.run, tries=pull.tries, gone=(*pull.gone, *came.gone)
            )

    def turn(self, times: int = 1, seconds: int = 1) -> PrefetchPlan:
        """So many plans, each carried out, ``seconds`` apart."""
        for _ in range(times):
            made = self.plan()
            self.work()
            self.now += timedelta(seconds=seconds)
        return made

    def settle(self, turns: int = 200) -> PrefetchPlan:
        """Go from moment to moment until it is ready, or nothing changes within an hour, or for so many turns."""
        for _ in range(turns):
            before = (self.each.status, self.pulls_now())
            made = self.turn()
            if (self.each.status, self.pulls_now()) == before:
                soon = made.wake_at is not None and made.wake_at - self.now <= timedelta(hours=1)
                if not soon or self.says("Ready")[0] == "True":
                    return made
                self.now = max(self.now, made.wake_at or self.now)
        return self.plan()

    def pulls_now(self) -> dict[str, dict[str, Pull]]:
        """A copy of all that nodes have reported."""
        return {task: dict(pulls) for task, pulls in self.pulls.items()}

    def active(self) -> dict[str, int]:
        """How many images each node pulls at the moment, if any."""
        found: dict[str, int] = {}
        for pulls in self.pulls.values():
            for name, pull in pulls.items():
                if pull.phase is Phase.PULLING:
                    found[name] = found.get(name, 0) + 1
        return found

    def says(self, kind: str) -> tuple[str, str]:
        """A condition's status and reason."""
        condition = find(self.each.status.conditions, kind)
        return ("", "") if condition is None else (condition.status, condition.reason)

    def message(self, kind: str) -> str:
        """A condition's message."""
        condition = find(self.each.status.conditions, kind)
        return "" if condition is None else condition.message


def failed(reason: str, message: str = "it failed") -> Pull:
    return Pull(Phase.FAILED, NOW, reason=reason, message=message)
