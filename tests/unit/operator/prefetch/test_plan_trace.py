"""The way of one ImagePrefetch through the planner is short: few functions, and each module is entered once.

A profiler sees every call of Python code during one ``plan()``. It counts like this:

* A module is a file of ``pantala_operator/plan``.
* A function is a function or a method that such a file defines. Frames of comprehensions, generator expressions and
  lambdas belong to the function around them. Generated constructors of dataclasses have no file, so they do not count.
* An entry is a call of such a function from the code of another module, or from outside of the plan for the first one.
  Code of other packages in between, such as a sort that calls back, does not change from which module a call comes.
"""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

import pytest

from pantala_operator import plan as room
from pantala_operator.plan.prefetch import images, run
from pantala_operator.plan.prefetch.inputs import ObservedImages, Surroundings
from pantala_operator.plan.prefetch.plan import PrefetchPlan, demand_of, plan
from pantala_operator.plan.secrets import Absent
from pantala_operator.resources.prefetch import ImagePrefetch, PrefetchStatus
from tests.support import prefetch as support
from tests.support.prefetch import NOW, READY, TWO, YES, failed, numbered, prefetch, refused, world

FOLDER = Path(room.__file__).parent
STAGES = ["run", "images", "pins", "pulls", "rollout", "orders", "children", "questions", "counts", "status"]
MODULES = {"targets", "prefetch.plan", *(f"prefetch.{stage}" for stage in STAGES)}

T = TypeVar("T")


@dataclass
class Trace:
    """What one call of the planner went through."""

    entries: Counter[str] = field(default_factory=Counter)
    functions: set[str] = field(default_factory=set)

    def of(self, call: Callable[[], T]) -> T:
        before = sys.getprofile()
        sys.setprofile(self._see)
        try:
            return call()
        finally:
            sys.setprofile(before)

    def _see(self, frame: FrameType, event: str, _argument: object) -> None:
        module = _module(frame.f_code)
        if event != "call" or not module or frame.f_code.co_name.startswith("<"):
            return
        self.functions.add(f"{module}.{frame.f_code.co_qualname}")
        caller = frame.f_back
        while caller is not None and not _module(caller.f_code):
            caller = caller.f_back
        if caller is None or _module(caller.f_code) != module:
            self.entries[module] += 1


@cache
def _module(code: CodeType) -> str:
    """The name below ``pantala_operator.plan``; empty: code of another package."""
    path = Path(code.co_filename)
    return ".".join(path.relative_to(FOLDER).with_suffix("").parts) if path.is_relative_to(FOLDER) else ""


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[Trace]:
    """One for each plan of a world."""
    found: list[Trace] = []

    def traced(each: ImagePrefetch, observed: ObservedImages, now: datetime) -> PrefetchPlan[PrefetchStatus]:
        found.append(Trace())
        return found[-1].of(lambda: plan(each, observed, now))

    monkeypatch.setattr(support, "plan", traced)
    return found


def test_a_default_one_passes_through_at_most_20_functions_on_its_way_to_ready(traces: list[Trace]) -> None:
    """It waits for the registry, pulls one image after the other, and is ready at the end."""
    it = world(*numbered(3))
    it.settle()
    assert (YES, "Prefetched") == it.says("Ready")
    assert 5 <= len(traces)
    for trace in traces:
        assert dict.fromkeys(MODULES, 1) == trace.entries
        assert len(trace.functions) <= 20, sorted(trace.functions)
    assert len(MODULES) <= 12
    assert len(set().union(*(trace.functions for trace in traces))) <= 20, "over all plans"


SPECS: dict[str, dict[str, Any]] = {
    "a report": {"mode": "Plan", "target": {"count": 2}},
    "waves": {"rollout": {"parallelism": "50%", "maxFailures": 1, "waves": [{"nodes": 1}]}},
    "a schedule": {"schedule": {"cron": "* * * * *"}},
    "a taint": {"startupTaint": {"key": "example.com/x"}, "completionPolicy": "Continuous"},
    "secrets": {"pullSecrets": ["s", "t"]},
    "a workload": {"from": {"workloadRef": {"kind": "Deployment", "name": "web"}}},
    "a budget": {"retention": {"pin": True, "byteBudget": "150"}},
    "a deadline": {"activeDeadlineSeconds": 3},
    "pods": {"target": {"podSelector": {"matchLabels": {"app": "x"}}}},
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("refusal", ["", "Unreachable", "NotFound"])
def test_no_module_is_entered_twice_whatever_is_wanted_and_whatever_fails(
    spec: dict[str, Any], refusal: str, traces: list[Trace]
) -> None:
    it = world(*numbered(3), outcome=lambda _image, name, _: failed("NoSpace") if name == "n01" else READY, **spec)
    it.secrets = {"s": Absent(), "t": Absent()}
    if refusal:
        it.registry[TWO] = refused(refusal)
    it.turn(8, seconds=15)
    assert 8 == len(traces)
    for trace in traces:
        assert {1} == set(trace.entries.values()), trace.entries
        assert trace.entries.keys() >= MODULES


def test_the_trace_counts_each_entry_and_each_function() -> None:
    demand, trace = demand_of(prefetch()), Trace()
    trace.of(lambda: [run.current(demand, NOW) for _ in range(2)])
    assert ({"prefetch.run": 2}, {"prefetch.run.current"}) == (trace.entries, trace.functions)
    trace.of(lambda: images.gather(demand_of(prefetch(images=[])), Surroundings(), {}))
    assert {"prefetch.run": 2, "prefetch.plan": 1, "prefetch.images": 1} == trace.entries
