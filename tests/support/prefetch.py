"""Simulates a cluster that carries out the plans of an ImagePrefetch, without Kubernetes, sockets or a clock."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jsonschema
import msgspec

from pantala_operator.plan.nodes import Trouble
from pantala_operator.plan.prefetch.inputs import (
    GivenOrder,
    ObservedImages,
    Orders,
    OwnedTask,
    RegistryAnswer,
    Surroundings,
)
from pantala_operator.plan.prefetch.plan import PrefetchPlan, plan
from pantala_operator.plan.secrets import SecretReading
from pantala_operator.plan.targets import ClusterNodes, PeerState, Pod
from pantala_operator.resources.api import Metadata, Node, NodeSpec
from pantala_operator.resources.conditions import find
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, PrefetchStatus
from pantala_protocol.images import ImageBlob, PullPhase, PullState
from pantala_protocol.registry import Resolved
from pantala_protocol.rules.requests import REQUESTED_AT
from pantala_protocol.rules.selection import Taint
from tests.support import crds

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNIX = int(NOW.timestamp())
SECOND = timedelta(seconds=1)
ONE, TWO = "docker.io/library/one:1", "docker.io/library/two:2"
AMD64 = "linux/amd64"
YES, NO, UNKNOWN = "True", "False", "Unknown"
UNREACHABLE = Taint("node.kubernetes.io/unreachable", "NoExecute")
READY = PullState(PullPhase.READY, UNIX, fetched=100)
_PULLING = PullPhase.PULLING
ONLY_ONE = [{"image": "one:1"}]


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


def numbered(count: int) -> list[Node]:
    return [node(f"n{number:02}") for number in range(count)]


def cluster(*nodes: Node, pods: tuple[Pod, ...] = ()) -> ClusterNodes:
    known = {each.metadata.name: each for each in nodes}
    return ClusterNodes(known, dict.fromkeys(known, PeerState(connected=True)), pods)


def resolved(
    letter: str, at: datetime = NOW, *, asked: frozenset[str] = frozenset({AMD64}), platform: str = AMD64
) -> RegistryAnswer:
    """A registry's answer: an image of 110 bytes for one platform. The question named the platforms ``asked``."""
    blobs = (ImageBlob(digest(letter), 100), ImageBlob(digest("9"), 10))
    return RegistryAnswer(at, Resolved(digest(letter), {platform: blobs}), asked)


def refused(reason: str, message: str = "", *, tries: int = 1, at: datetime = NOW) -> RegistryAnswer:
    return RegistryAnswer(at, Resolved(reason=reason, message=message), tries=tries)


def failed(reason: str, message: str = "it failed") -> PullState:
    return PullState(PullPhase.FAILED, UNIX, reason=reason, message=message)


Outcome = Callable[[str, str, int], PullState | None]
"""Returns the result of a pull, for an image, a node and the number of the attempt. ``None``: it still runs."""


def works(*_: object) -> PullState:
    return READY


def pending(*_: object) -> None:
    return None


@dataclass
class World:
    """One ImagePrefetch, and simulated nodes that carry out its orders, one step of the clock after the other."""

    each: ImagePrefetch
    cluster: ClusterNodes
    registry: dict[str, RegistryAnswer] = field(default_factory=lambda: {ONE: resolved("a"), TWO: resolved("b")})
    outcome: Outcome = works
    around: Surroundings = field(default_factory=Surroundings)
    secrets: dict[str, SecretReading] = field(default_factory=dict)
    now: datetime = NOW
    children: dict[str, OwnedTask] = field(default_factory=dict)
    pulls: dict[str, dict[str, PullState]] = field(default_factory=dict)
    answers: dict[ImageKey, RegistryAnswer] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    latest: PrefetchPlan[PrefetchStatus] | None = None

    @property
    def unix(self) -> int:
        return int(self.now.timestamp())

    @property
    def orders(self) -> Orders:
        return (self.latest.orders.orders if self.latest is not None else None) or {}

    def ordered(self) -> list[set[str]]:
        """The nodes with orders, for each image."""
        return [set(given) for given in self.orders.values()]

    def observe(self) -> ObservedImages:
        return ObservedImages(
            cluster=self.cluster,
            around=self.around,
            secrets=self.secrets,
            answers=dict(self.answers),
            tasks=tuple(self.children.values()),
            pulls=self.pulls_now(),
            orders=self.orders,
            reported=True,
            troubles=self.troubles,
        )

    def plan(self) -> PrefetchPlan[PrefetchStatus]:
        """Plan once, and carry out the plan except for the pulls."""
        made = self.latest = plan(self.each, self.observe(), self.now)
        self.each = msgspec.structs.replace(self.each, status=made.status)
        for body in made.tasks.apply:
            name, source = body["metadata"]["name"], body["spec"]["source"]
            owner = body["metadata"]["ownerReferences"][0]["uid"]
            self.children[name] = OwnedTask(name, owner, source["image"], source.get("platform", ""))
        for name in made.tasks.delete:
            del self.children[name]
            self.pulls.pop(name, None)
        for key, question in made.questions:
            if (answer := self.registry.get(question.image)) is not None:
                self.answers[key] = replace(answer, at=self.now)
        return made

    def work(self) -> None:
        """Let the nodes carry out their orders: they end the running pulls by ``outcome``, and start new ones."""
        for task, given in self.orders.items():
            pulls = self.pulls.setdefault(task, {})
            for name, order in given.items():
                self._carry_out(task, name, order)
            for name in [name for name, pull in pulls.items() if pull.phase is _PULLING and name not in given]:
                del pulls[name]

    def _carry_out(self, task: str, name: str, given: GivenOrder) -> None:
        pull, order = self.pulls[task].get(name), given.order
        if pull is not None and pull.phase is PullPhase.READY:
            return
        if pull is None or (pull.run, pull.number) != (order.run, order.number):
            gone = pull.gone if pull is not None else ()
            self.pulls[task][name] = PullState(_PULLING, self.unix, order.run, order.number, gone=gone)
        elif pull.phase is _PULLING:
            came = self.outcome(self.children[task].image, name, pull.number)
            if came is not None:
                self.pulls[task][name] = msgspec.structs.replace(
                    came, since=self.unix, run=pull.run, number=pull.number, gone=(*pull.gone, *came.gone)
                )

    def turn(self, times: int = 1, seconds: int = 1) -> PrefetchPlan[PrefetchStatus]:
        """Plan and work ``times`` times, ``seconds`` of the clock apart. Returns the last plan."""
        for _ in range(times):
            made = self.plan()
            self.work()
            self.now += timedelta(seconds=seconds)
        return made

    def settle(self, turns: int = 200) -> PrefetchPlan[PrefetchStatus]:
        """Make turns until Ready is True, nothing changes within an hour, or ``turns`` are over."""
        for _ in range(turns):
            before = (self.each.status, self.pulls_now())
            made = self.turn()
            if (self.each.status, self.pulls_now()) == before:
                soon = made.wake_at is not None and made.wake_at - self.now <= timedelta(hours=1)
                if not soon or self.says("Ready")[0] == YES:
                    break
                self.now = max(self.now, made.wake_at or self.now)
        else:
            made = self.plan()
        self.fits()
        return made

    def finish(self) -> None:
        """Let all pulls succeed from now on, and make turns until Ready is True."""
        self.outcome = works
        self.settle()
        assert (YES, "Prefetched") == self.says("Ready")

    def pulls_now(self) -> dict[str, dict[str, PullState]]:
        """A copy of all reported pulls: Task -> node -> state."""
        return {task: dict(pulls) for task, pulls in self.pulls.items()}

    def active(self) -> dict[str, int]:
        """The number of images that each node is pulling, for nodes that pull any."""
        pulling = (name for pulls in self.pulls.values() for name, each in pulls.items() if each.phase is _PULLING)
        return dict(Counter(pulling))

    def started(self) -> set[str]:
        """The nodes that have ever had an order."""
        return {name for pulls in self.pulls.values() for name in pulls}

    def says(self, kind: str) -> tuple[str, str]:
        """The status and reason of the condition ``kind``."""
        condition = find(self.each.status.conditions, kind)
        return ("", "") if condition is None else (condition.status, condition.reason)

    def summary(self) -> list[tuple[str, str]]:
        """Status and reason of Ready, Reconciling and Stalled."""
        return [self.says(kind) for kind in ("Ready", "Reconciling", "Stalled")]

    def message(self, kind: str) -> str:
        condition = find(self.each.status.conditions, kind)
        return "" if condition is None else condition.message

    def failures(self) -> list[tuple[str, str, str]]:
        """Node, image and reason of each listed failure."""
        return [(each.node, each.image, each.reason) for each in self.each.status.failures]

    def edit(self, generation: int = 2, **spec: Any) -> None:
        self.each = msgspec.structs.replace(prefetch(generation, **spec), status=self.each.status)

    def request(self, value: str, **spec: Any) -> None:
        asked = prefetch(annotations={REQUESTED_AT: value}, **spec)
        self.each = msgspec.structs.replace(asked, status=self.each.status)

    def fits(self) -> None:
        """Assert that the status is valid for the CRD's schema."""
        schema("imageprefetches", "status").validate(msgspec.json.decode(msgspec.json.encode(self.each.status)))


def world(*nodes: Node, outcome: Outcome = works, **spec: Any) -> World:
    """A simulated cluster with these nodes, by default three. ``spec`` has fields of the ImagePrefetch."""
    return World(prefetch(**spec), cluster(*(nodes or map(node, "abc"))), outcome=outcome)


def settled(*nodes: Node, **spec: Any) -> World:
    made = world(*nodes, **spec)
    made.settle()
    return made


@cache
def schema(plural: str, part: str) -> jsonschema.Draft202012Validator:
    """The schema of a CRD's spec or status."""
    return jsonschema.Draft202012Validator(_closed(crds.schema(plural)["properties"][part]))


def _closed(part: dict[str, Any]) -> dict[str, Any]:
    """The schema without unknown fields. The API server drops such fields, so a test must not write them."""
    inner = {name: _closed(each) for name, each in part.get("properties", {}).items()}
    changes: dict[str, Any] = {"properties": inner, "additionalProperties": False} if inner else {}
    if "items" in part:
        changes["items"] = _closed(part["items"])
    return part | changes
