"""The parameters of one row, and the rows that are run by default."""

import random
from dataclasses import dataclass, field

from pantala_protocol.geometry import Geometry, piece_size
from pantala_supernode.sync.timing import SyncTiming

_MEGABIT = 1e6 / 8
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Costs:
    """The CPU seconds of the supernode for each step of an exchange."""

    request: float = 0.13e-3
    """For each request: to read, decode and apply it."""
    answer: float = 0.09e-3
    """For each answer: to encode and send it."""
    piece: float = 0.015e-3
    """For each assigned piece: to decide."""


@dataclass(frozen=True)
class SimulatedRow:
    """A file, the swarm that receives it, and the network."""

    peers: int
    size: int = 64 * _MEBIBYTE
    """The file's size in bytes."""
    zones: int = 1
    """The number of zones. The supernode and the origin are in the first zone."""
    churn: float = 0.0
    """The share of the peers whose nodes lose power during one line time. A node is back after ``outage`` seconds."""
    outage: float = 20.0
    peer_megabits: float = 50.0
    supernode_megabits: float = 100.0
    origin_megabits: float | None = 100.0
    """``None``: the supernode has the whole file at the start."""
    overhead: float = 1.045
    """Bytes on the wire for each byte of a piece: the headers of Ethernet and TCP."""
    rtt: float = 0.0005
    """Seconds for a message to another host and back."""
    verify_rate: float = 400.0 * _MEBIBYTE
    """The bytes a second with which a peer verifies and stores a piece."""
    downloads: int = 8
    """The pieces that a peer fetches at once."""
    uploads: int = 8
    """The pieces that a peer sends at once."""
    supernode_uploads: int = 16
    """The pieces that the supernode sends at once."""
    costs: Costs = Costs()
    timing: SyncTiming = field(default_factory=SyncTiming)
    seed: int = 1

    @property
    def geometry(self) -> Geometry:
        return Geometry(piece_size(self.size), self.size)

    @property
    def line_seconds(self) -> float:
        """The seconds that the file's bytes need on a peer's link, without headers. No download can be faster."""
        return self.size / self.peer_rate

    @property
    def peer_rate(self) -> float:
        """The bytes a second of each direction of a peer's link."""
        return self.peer_megabits * _MEGABIT

    @property
    def supernode_rate(self) -> float:
        return self.supernode_megabits * _MEGABIT

    @property
    def origin_rate(self) -> float | None:
        return None if self.origin_megabits is None else self.origin_megabits * _MEGABIT

    def zone_of(self, number: int) -> str:
        return f"zone-{number % self.zones}" if self.zones > 1 else ""

    def chance(self) -> random.Random:
        return random.Random(self.seed)


def standard_rows() -> dict[str, SimulatedRow]:
    """The rows by name. All but the first two have 256 pieces of 4 MiB or of 256 KiB."""
    large = 1024 * _MEBIBYTE
    return {
        "bench-8": SimulatedRow(8),
        "bench-16": SimulatedRow(16),
        "100": SimulatedRow(100, size=large),
        "1000": SimulatedRow(1000, size=large),
        "10000": SimulatedRow(10_000, size=large, supernode_megabits=200.0),
        "small-100": SimulatedRow(100),
        "small-1000": SimulatedRow(1000),
        "zones-1000": SimulatedRow(1000, size=large, zones=4),
        "churn-1000": SimulatedRow(1000, size=large, churn=0.05),
    }
