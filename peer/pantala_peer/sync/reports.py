"""The port to those who want to know what became of their orders."""

from __future__ import annotations

from typing import Protocol

from pantala_protocol.sync import DeliveryState, PieceFailure


class Reports(Protocol):
    """Takes reports, each for the supernodes that it concerns, and keeps them until they are told."""

    def piece_done(self, task_id: str, generation: str, piece: int) -> None:
        """A piece was verified and can be served."""
        ...

    def piece_failed(self, failure: PieceFailure, giver: str) -> None:
        """A piece that the supernode of boot ID ``giver`` gave could not be had."""
        ...

    def delivery(self, task_id: str, uid: str, state: DeliveryState | None) -> None:
        """How a delivery of a task is now; ``None``: not there."""
        ...

    def state_inventory(self, task_id: str) -> None:
        """Less is held of a task than was said."""
        ...

    def send(self) -> None:
        """Tell what is not told yet."""
        ...
