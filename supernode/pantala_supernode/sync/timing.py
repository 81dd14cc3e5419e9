"""The time limits of the exchanges with peers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SyncTiming:
    """The time limits of exchanges, in seconds."""

    hold: float = 8.0
    """The longest time that an exchange is held. Proxies and firewalls keep idle connections open for longer. A frozen
    peer is noticed after this time plus ``away_after``."""
    busy_hold: float = 5.0
    """The longest hold for a peer that lacks pieces. Users wait for this peer, so a failure must be noticed sooner."""
    away_after: float = 3.0
    """How late the next exchange of a peer may be. After that, the peer is not a provider, and its pieces are given to
    other peers. The pause that the supernode demands between two exchanges is added."""
    forgotten_after: float = 600.0
    """The time without an exchange after which a peer is removed. A reboot of a node takes less time."""
    share: float = 0.0004
    """The seconds that each downloading peer adds to the pause between two exchanges of a peer. So all peers together
    send about 2,500 exchanges a second, which use three quarters of a core. With a full core, answers would be late,
    peers would run out of work and send more requests, and the swarm would not recover."""
    most_pace: float = 6.0
    """The longest pause that the supernode demands: for 15,000 downloading peers. Each piece that arrives between two
    exchanges slows down the swarm by about 3 %. An overloaded supernode would slow it down much more."""
    silence: float = 120.0
    """If a peer does not report any of its given pieces in this time, the pieces are given to other peers."""
