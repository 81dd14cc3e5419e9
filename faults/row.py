"""A row of the fault suite: one kind of fault, how often it is injected, and what was found."""

import random
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SHOWN = 5
"""Different violations of one row that are kept as text. All of them are counted."""


@dataclass(frozen=True)
class Case:
    """One experiment. Its number and the seed decide all that is random in it."""

    number: int
    chance: random.Random
    replay: str
    """The command that runs only this experiment."""


@dataclass
class Tally:
    """What the experiments of a row have counted."""

    counts: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    """The largest value of each measurement."""
    broken: int = 0
    violations: list[str] = field(default_factory=list)
    """The first violations, each with the command that repeats it."""

    def add(self, **numbers: int) -> None:
        self.counts.update(numbers)

    def measure(self, name: str, value: float) -> None:
        self.worst[name] = max(value, self.worst.get(name, value))

    def check(self, holds: object, what: str, case: Case) -> None:
        """Record a violation unless ``holds``."""
        if holds:
            return
        self.broken += 1
        if len(self.violations) < _SHOWN and not any(each.startswith(f"{what}\n") for each in self.violations):
            self.violations.append(f"{what}\n  repeat it: {case.replay}")


@dataclass
class Plan:
    """How often a row runs, with which seed, and in which folder."""

    row: str
    count: int
    folder: Path
    seed: int = 1
    first: int = 0
    seconds: float | None = None
    """After so many seconds, no further experiment begins."""
    begun: float = field(default_factory=time.monotonic)
    latest: int = 0
    """The number of the experiment that began last."""

    def case(self, number: int) -> Case:
        self.latest = number
        chance = random.Random(f"{self.row} {self.seed} {number}")
        replay = f"python -m faults --rows {self.row} --seed {self.seed} --first {number} --count 1"
        return Case(number, chance, replay)

    @property
    def over(self) -> bool:
        return self.seconds is not None and time.monotonic() - self.begun > self.seconds

    def cases(self, size: int = 1) -> Iterator[Case]:
        """The experiments. Each counts as ``size`` faults."""
        for number in range(self.first, self.first + -(-self.count // size)):
            if self.over:
                return
            yield self.case(number)


@dataclass(frozen=True)
class Row:
    """One kind of fault. ``run`` injects it, and counts into the tally."""

    name: str
    what: str
    """The faults, in words."""
    promise: str
    """What must hold whatever the faults are."""
    ids: tuple[str, ...]
    """The requirements that the row proves."""
    full: int
    """How many experiments the full form runs."""
    short: int
    """How many experiments the form in ``make test`` runs."""
    unit: str
    """The count that :attr:`full` is about."""
    run: Callable[[Plan, Tally], Awaitable[None]]
    lacks: Callable[[], str | None] = lambda: None
    """Why the row cannot run here, or ``None``."""


def few_descriptors(wanted: int) -> str | None:
    """Why this process cannot have as many open files. ``None``: it can."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard >= wanted else f"{hard} file descriptors are too few"


def memory_folder() -> Path | None:
    """A folder in memory, if there is one. There, an experiment does not wait for a disk that others use."""
    folder = Path("/dev/shm")
    return folder if folder.is_dir() else None
