"""What was ordered of this node's images, and how far each is. Pure: who changes it carries it out.

An order is done once: the pull of its number in its run. How it ended stays until it is no longer named, or until
another order for the same key takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import structs

from pantala_protocol import task_id
from pantala_protocol.images import Depth, NodeOrder, NodeOrders, PullPhase, PullState

_MOST_GONE = 10
"""Times that are told of one image; the oldest are left out."""


class Entry(msgspec.Struct, frozen=True):
    """One order, and how far it is."""

    order: NodeOrder
    state: PullState


class Change(NamedTuple):
    """What new orders change."""

    begun: list[str]
    """Keys that are to be carried out, from the start."""
    ended: list[str]
    """Keys that are to be carried out no longer."""


class Ledger:
    """All of them. ``now`` is in seconds since the epoch."""

    def __init__(self, entries: Iterable[Entry] = (), pins: Iterable[str] = ()) -> None:
        self.entries = {entry.order.key: entry for entry in entries}
        """By key."""
        self.pins = set(pins)
        """Images that were pinned for orders, ``registry/repository@digest``."""

    def obey(self, orders: NodeOrders, now: int) -> Change:
        """Take new orders; what they do not name is ordered no longer."""
        former, self.entries = self.entries, {}
        begun = []
        for order in orders.pulls:
            entry = former.get(order.key)
            if entry is not None and _is_same(entry.order, order):
                self.entries[order.key] = Entry(order, entry.state)
            else:
                gone = entry.state.gone if entry is not None and entry.order.image == order.image else ()
                self.entries[order.key] = Entry(order, _begun(order, now, gone))
                begun.append(order.key)
        return Change(begun, [key for key in former if key not in self.entries])

    def unfinished(self) -> list[str]:
        """Keys of what an earlier process did not bring to an end."""
        return [key for key, entry in self.entries.items() if entry.state.phase is PullPhase.PULLING]

    def ready(self, key: str, now: int) -> None:
        """It is there."""
        state = self.entries[key].state
        self._set(key, structs.replace(state, phase=PullPhase.READY, since=now, reason="", message=""))

    def failed(self, key: str, reason: str, message: str, now: int) -> None:
        """It could not be had."""
        state = self.entries[key].state
        self._set(key, structs.replace(state, phase=PullPhase.FAILED, since=now, reason=reason, message=message))

    def gone(self, key: str, now: int) -> None:
        """It was there and is not any more."""
        state = self.entries[key].state
        gone = (*state.gone, now)[-_MOST_GONE:]
        self._set(key, structs.replace(state, phase=PullPhase.GONE, since=now, gone=gone))

    def fetched(self, key: str, count: int) -> bool:
        """So many bytes came for it by now. Tells whether that is news."""
        state = self.entries[key].state
        self._set(key, structs.replace(state, fetched=count))
        return count != state.fetched

    def states(self) -> dict[str, PullState]:
        """How far all are, by key."""
        return {key: entry.state for key, entry in self.entries.items()}

    def ready_entries(self, depth: Depth) -> list[Entry]:
        """What is there, and is to be looked after."""
        return [e for e in self.entries.values() if e.order.depth is depth and e.state.phase is PullPhase.READY]

    def kept_tasks(self) -> set[str]:
        """Tasks of the blobs that are ordered to be in the peer's cache."""
        return {
            task_id.of_blob(blob.digest)
            for entry in self.entries.values()
            if entry.order.depth is Depth.PEER
            for blob in entry.order.blobs
        }

    def _set(self, key: str, state: PullState) -> None:
        self.entries[key] = Entry(self.entries[key].order, state)


def _is_same(former: NodeOrder, order: NodeOrder) -> bool:
    """Whether it is the order that was given already. More time, or a pin, is no other order."""
    return (former.image, former.depth, former.blobs, former.order.run, former.order.number) == (
        order.image,
        order.depth,
        order.blobs,
        order.order.run,
        order.order.number,
    )


def _begun(order: NodeOrder, now: int, gone: tuple[int, ...]) -> PullState:
    return PullState(PullPhase.PULLING, now, run=order.order.run, number=order.order.number, gone=gone)
