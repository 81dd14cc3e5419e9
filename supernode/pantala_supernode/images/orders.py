"""The operator's orders about images, and the registry accounts for them. Pure.

The operator decides about images. A supernode only passes the orders on to their nodes, and asks registries for the
manifests and blobs that an order needs.
"""

from collections.abc import Iterable, Set

import structlog
from msgspec.structs import replace

from pantala_protocol import image
from pantala_protocol.image import ImageReference
from pantala_protocol.images import MAX_PULLS, MAX_SURVEY, Depth, NodeOrder, NodeOrders, WantedImage
from pantala_protocol.statement import Statement
from pantala_supernode.errors import ForbiddenError
from pantala_supernode.registry.clouds.accounts import AccountChoice
from pantala_supernode.registry.credentials import Keyring, RegistryAccount

_log = structlog.get_logger(__name__)

Credentials = tuple[str, ...]
"""The texts of an image's pull secrets, as the statement has them."""


class StatedImages:
    """The images and orders of the statement in force."""

    def __init__(self) -> None:
        self._revision = 0
        self._survey: tuple[str, ...] = ()
        self._unchanged: tuple[str, ...] = ()
        self._images: dict[str, WantedImage] = {}
        self._pulls: dict[str, tuple[NodeOrder, ...]] = {}

    @property
    def credentials(self) -> frozenset[Credentials]:
        return frozenset(wanted.credentials for wanted in self._images.values())

    def take(self, statement: Statement) -> frozenset[str] | None:
        """Replace the images. Returns the nodes whose orders changed, or ``None`` for all nodes."""
        before, survey, unchanged = self._pulls, self._survey, self._unchanged
        first = not self._revision
        self._revision, self._survey = statement.revision, statement.survey[:MAX_SURVEY]
        kept = {key: self._images[key] for key in statement.unchanged if key in self._images}
        self._images = kept | {wanted.key: wanted for wanted in statement.images}
        self._unchanged = tuple(sorted(set(statement.unchanged) - self._images.keys()))
        self._pulls = _by_node(self._images.values())
        if first or (survey, unchanged) != (self._survey, self._unchanged):
            return None
        nodes = before.keys() | self._pulls.keys()
        return frozenset(node for node in nodes if before.get(node) != self._pulls.get(node))

    def orders(self, node: str) -> NodeOrders | None:
        """All orders of a node. ``None`` before the first statement."""
        if not self._revision:
            return None
        return NodeOrders(self._revision, self._pulls.get(node, ()), self._survey, self._unchanged)

    def news(self, node: str, last_sent: NodeOrders | None) -> bool:
        orders = self.orders(node)
        if orders is None or last_sent is None:
            return orders is not None
        return replace(last_sent, revision=orders.revision) != orders

    def ordered(self, node: str, key: str, name: str) -> tuple[WantedImage, ImageReference]:
        """The ordered image ``key`` of a node. It must be in the repository ``name``, as ``registry/repository``.

        An empty ``node`` means any node, for ``--no-auth``. Without such an order, raises :class:`ForbiddenError`.
        """
        wanted = self._images.get(key)
        if wanted is None or not wanted.orders or (node and node not in wanted.orders):
            raise ForbiddenError(f"node {node!r} has no current order for the image {key[:200]!r}")
        try:
            reference = image.parse(wanted.image)
        except ValueError as error:
            raise ForbiddenError(f"the order {key!r} has an invalid image: {error}") from None
        if reference.name != name:
            raise ForbiddenError(f"the order {key!r} is for {reference.name}, not for {name[:300]!r}")
        return wanted, reference


class OrderAccounts:
    """Finds the accounts of an order in its pull secrets, and caches which account the registry accepted."""

    def __init__(self, choice: AccountChoice) -> None:
        self._choice = choice
        self._keyrings: dict[Credentials, Keyring] = {}
        self._accepted: dict[tuple[str, Credentials], RegistryAccount] = {}

    def keep(self, stated: Set[Credentials]) -> None:
        """Forget all other pull secrets. A tenant may change a large one again and again."""
        self._keyrings = {each: keyring for each, keyring in self._keyrings.items() if each in stated}
        self._accepted = {name: account for name, account in self._accepted.items() if name[1] in stated}

    def of(self, wanted: WantedImage, reference: ImageReference) -> tuple[RegistryAccount, ...]:
        """The accounts, in the sequence in which to try them. See :class:`AccountChoice`."""
        found = self._choice.of(reference, self._keyring(wanted))
        accepted = self._accepted.get((reference.name, wanted.credentials))
        return tuple(sorted(found, key=lambda account: account != accepted))

    def accept(self, wanted: WantedImage, reference: ImageReference, account: RegistryAccount) -> None:
        self._accepted[reference.name, wanted.credentials] = account

    def _keyring(self, wanted: WantedImage) -> Keyring:
        secrets = wanted.credentials
        if secrets not in self._keyrings:
            found = _keyring(*(secret for secret in secrets if _keyring(secret) is not None))
            if found is None:
                text = "ignored all pull secrets of an image; together they have too many entries, so remove some"
                _log.warning(text, image=wanted.image)
            self._keyrings[secrets] = found or Keyring()
        return self._keyrings[secrets]


def _keyring(*secrets: str) -> Keyring | None:
    """``None`` if a secret is malformed or too large. It is skipped, as in the kubelet. The resolution reports it."""
    try:
        return Keyring.read(*secrets)
    except ValueError:
        return None


def _by_node(images: Iterable[WantedImage]) -> dict[str, tuple[NodeOrder, ...]]:
    """The orders of each node. ``images``: sorted by age, the oldest first.

    A node gets no more orders than it can report. With more, the supernode would refuse all its exchanges.
    """
    found: dict[str, list[NodeOrder]] = {}
    for wanted in images:
        for node, order in wanted.orders.items():
            blobs = wanted.blobs.get(wanted.platforms.get(node, ""), ()) if wanted.depth is Depth.PEER else ()
            order_of_node = NodeOrder(wanted.key, wanted.image, order, wanted.depth, wanted.pin, blobs)
            found.setdefault(node, []).append(order_of_node)
    return {node: tuple(sorted(orders[:MAX_PULLS], key=lambda order: order.key)) for node, orders in found.items()}
