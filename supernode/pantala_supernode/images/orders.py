"""The orders about images, as the operator stated them: what each node is told, and who may pull what. Pure.

A supernode decides nothing about images. It passes on what concerns a node, and speaks to registries in the name of an
order that the node has.
"""

from __future__ import annotations

from collections.abc import Iterable

from pantala_protocol import image
from pantala_protocol.image import ImageReference
from pantala_protocol.images import Depth, NodeOrder, NodeOrders, WantedImage
from pantala_protocol.statement import Statement
from pantala_supernode.errors import ForbiddenError


class StatedImages:
    """The images of the statement in force."""

    def __init__(self) -> None:
        self._revision = 0
        self._survey: tuple[str, ...] = ()
        self._images: dict[str, WantedImage] = {}
        self._pulls: dict[str, tuple[NodeOrder, ...]] = {}

    def take(self, statement: Statement) -> frozenset[str] | None:
        """Take what is stated; the nodes that something changed for, or ``None`` for all."""
        before, survey = self._pulls, self._survey
        first = not self._revision
        self._revision, self._survey = statement.revision, statement.survey
        self._images = {wanted.key: wanted for wanted in statement.images}
        self._pulls = _by_node(self._images.values())
        if first or survey != self._survey:
            return None
        nodes = before.keys() | self._pulls.keys()
        return frozenset(node for node in nodes if before.get(node) != self._pulls.get(node))

    def orders(self, node: str) -> NodeOrders | None:
        """All that a node shall do; ``None``: nothing was stated yet."""
        if not self._revision:
            return None
        return NodeOrders(self._revision, self._pulls.get(node, ()), self._survey)

    def news(self, node: str, told: NodeOrders | None) -> bool:
        """Whether a node that was ``told`` that shall do something else by now."""
        if not self._revision:
            return False
        return told is None or (told.pulls, told.survey) != (self._pulls.get(node, ()), self._survey)

    def ordered(self, node: str, key: str, name: str) -> tuple[WantedImage, ImageReference]:
        """The image that a node has an order for, if it is of repository ``name`` (with its registry).

        No ``node``: that of any, where nobody has to say who it is. Raises :class:`ForbiddenError`.
        """
        wanted = self._images.get(key)
        if wanted is None or not wanted.orders or (node and node not in wanted.orders):
            raise ForbiddenError(f"node {node!r} has no order for the image {key[:200]!r} (any more)")
        try:
            reference = image.parse(wanted.image)
        except ValueError as error:
            raise ForbiddenError(f"the image of the order {key!r} cannot be asked for: {error}") from None
        if reference.name != name:
            raise ForbiddenError(f"the order {key!r} is for {reference.name}, not for {name[:300]!r}")
        return wanted, reference


def _by_node(images: Iterable[WantedImage]) -> dict[str, tuple[NodeOrder, ...]]:
    found: dict[str, list[NodeOrder]] = {}
    for wanted in images:
        for node, order in wanted.orders.items():
            blobs = wanted.blobs.get(wanted.platforms.get(node, ""), ()) if wanted.depth is Depth.PEER else ()
            told = NodeOrder(wanted.key, wanted.image, order, wanted.depth, wanted.pin, blobs)
            found.setdefault(node, []).append(told)
    return {node: tuple(sorted(orders, key=lambda order: order.key)) for node, orders in found.items()}
