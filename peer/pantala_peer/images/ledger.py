"""The ordered images of this node, their states, and the file that keeps both over a restart.

Each order is carried out once. Its run and number identify it. The result of an order stays until the image is no
longer ordered, or until another order for the same key replaces it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
from msgspec import structs

from pantala_peer.images.errors import InvalidOrderError
from pantala_pieces import records
from pantala_pieces.errors import store_errors
from pantala_pieces.records import RecordError
from pantala_protocol import image as images
from pantala_protocol import task_id
from pantala_protocol.image import ImageRepository
from pantala_protocol.images import Depth, NodeOrder, NodeOrders, PullPhase, PullState

_MAX_GONE = 10
"""The most times of removal that the peer reports for an image. The oldest times are dropped."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OrderedImage:
    """An ordered image: ``registry/repository[:tag]@digest``."""

    repository: ImageRepository
    pinned: str
    """``registry/repository@digest``."""
    tagged: str
    """``registry/repository:tag``. Empty: the order has no tag."""

    @classmethod
    def of(cls, order: NodeOrder) -> OrderedImage:
        """Read an order's image. Raises :class:`InvalidOrderError`."""
        try:
            reference = images.parse(order.image)
            name = order.image.partition("@")[0]
            tagged = str(images.parse(name)) if ":" in name.rpartition("/")[2] else ""
        except ValueError as error:
            raise InvalidOrderError(str(error)) from None
        if not reference.digest:
            raise InvalidOrderError(f"the ordered image {order.image[:140]!r} has no digest; update the operator")
        return cls(reference.place, str(reference), tagged)


class LedgerEntry(msgspec.Struct, frozen=True):
    """One order and its state."""

    order: NodeOrder
    state: PullState


class LedgerContent(msgspec.Struct, frozen=True):
    """The record of a ledger on the disk."""

    entries: tuple[LedgerEntry, ...]
    pins: tuple[str, ...]


class OrderChanges(NamedTuple):
    """The keys of images whose orders began or ended."""

    started: list[str]
    ended: list[str]


class Ledger:
    """All orders of this node and their states. ``now`` is in seconds since the epoch."""

    def __init__(self, entries: Iterable[LedgerEntry] = (), pins: Iterable[str] = ()) -> None:
        self.entries = {entry.order.key: entry for entry in entries}
        self.pins = set(pins)
        """The images that were pinned for orders, as ``registry/repository@digest``."""

    def apply(self, orders: NodeOrders, now: int) -> OrderChanges:
        """Replace all orders. The entry of an image that ``orders`` does not name is dropped."""
        former = self.entries
        self.entries = {key: former[key] for key in orders.unchanged if key in former}
        started = []
        for order in orders.pulls:
            entry = former.get(order.key)
            if entry is not None and _is_same(entry.order, order):
                self.entries[order.key] = LedgerEntry(order, entry.state)
            else:
                gone = entry.state.gone if entry is not None and entry.order.image == order.image else ()
                run, number = order.order.run, order.order.number
                state = PullState(PullPhase.PULLING, now, run=run, number=number, gone=gone)
                self.entries[order.key] = LedgerEntry(order, state)
                started.append(order.key)
        return OrderChanges(started, [key for key in former if key not in self.entries])

    def unfinished(self) -> list[str]:
        """The keys of orders that an earlier process did not finish."""
        return [key for key, entry in self.entries.items() if entry.state.phase is PullPhase.PULLING]

    def ready(self, key: str, now: int) -> None:
        self._update(key, phase=PullPhase.READY, since=now, reason="", message="")

    def failed(self, key: str, reason: str, message: str, now: int) -> None:
        self._update(key, phase=PullPhase.FAILED, since=now, reason=reason, message=message)

    def gone(self, key: str, now: int) -> None:
        """Record that an image was removed after it was ready."""
        gone = (*self.entries[key].state.gone, now)[-_MAX_GONE:]
        self._update(key, phase=PullPhase.GONE, since=now, gone=gone)

    def fetched(self, key: str, count: int) -> bool:
        """Record how many bytes of an image have arrived. Returns True if the number has changed."""
        former = self.entries[key].state.fetched
        self._update(key, fetched=count)
        return count != former

    def states(self) -> dict[str, PullState]:
        return {key: entry.state for key, entry in self.entries.items()}

    def ready_entries(self, depth: Depth) -> list[LedgerEntry]:
        """The ready images of one depth. The peer checks regularly that they are still there."""
        return [e for e in self.entries.values() if e.order.depth is depth and e.state.phase is PullPhase.READY]

    def kept_tasks(self) -> set[str]:
        """The tasks of the blobs that are ordered into the peer's cache."""
        return {
            task_id.of_blob(blob.digest)
            for entry in self.entries.values()
            if entry.order.depth is Depth.PEER
            for blob in entry.order.blobs
        }

    def render(self) -> LedgerContent:
        """The content of a :class:`LedgerFile`."""
        return LedgerContent(tuple(self.entries.values()), tuple(sorted(self.pins)))

    def _update(self, key: str, **changes: object) -> None:
        entry = self.entries[key]
        self.entries[key] = LedgerEntry(entry.order, structs.replace(entry.state, **changes))


def _is_same(former: NodeOrder, order: NodeOrder) -> bool:
    """True if the order is not new. A changed timeout or pin, or the removal of the tag, does not make an order new."""
    known = (former.image, _without_tag(former.image))
    return order.image in known and (former.depth, former.blobs, former.order.run, former.order.number) == (
        order.depth,
        order.blobs,
        order.order.run,
        order.order.number,
    )


def _without_tag(text: str) -> str:
    try:
        return str(images.parse(text))
    except ValueError:
        return text


class LedgerFile:
    """The file with the ledger. The methods block, and raise :class:`StoreError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Ledger:
        """The last ledger. Empty: the file is missing, not valid, or denied to this process."""
        with store_errors(f"read {self._path}"), contextlib.suppress(FileNotFoundError):
            try:
                content = records.load_pair(self._path, LedgerContent)
                return Ledger(content.entries, content.pins)
            except (RecordError, PermissionError) as error:
                log.warning("the record of ordered images cannot be used; starting without it", error=str(error))
        return Ledger()

    def write(self, content: LedgerContent) -> None:
        """Write the result of :meth:`Ledger.render`, and sync it to the disk."""
        records.store_pair(self._path, content)
