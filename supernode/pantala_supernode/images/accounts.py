"""Whose credentials an order to pull an image is carried out with: those of its pull secrets, which stay here. Pure."""

from __future__ import annotations

from typing import Final

from pantala_protocol.image import ImageReference
from pantala_protocol.images import WantedImage
from pantala_supernode.registry.cache import Cache
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount

_LIMIT: Final = 10_000
_FOREVER: Final = float("inf")
_Key = tuple[str, tuple[str, ...]]


class OrderAccounts:
    """Finds the accounts, and remembers which one a registry accepted. Prints none of them."""

    def __init__(self) -> None:
        self._keyrings: Cache[tuple[str, ...], Keyring] = Cache(_LIMIT)
        self._accepted: Cache[_Key, RegistryAccount] = Cache(_LIMIT)

    def of(self, wanted: WantedImage, reference: ImageReference) -> tuple[RegistryAccount, ...]:
        """To be tried in this order; nobody's, if no secret is for that registry."""
        found = self._keyring(wanted.credentials).find(reference.name) or (ANONYMOUS,)
        accepted = self._accepted.get((reference.name, wanted.credentials), 0.0)
        return tuple(sorted(found, key=lambda account: account != accepted))

    def accept(self, wanted: WantedImage, reference: ImageReference, account: RegistryAccount) -> None:
        """The registry let that one in."""
        self._accepted.put((reference.name, wanted.credentials), account, _FOREVER)

    def _keyring(self, secrets: tuple[str, ...]) -> Keyring:
        keyring = self._keyrings.get(secrets, 0.0)
        if keyring is None:
            keyring = Keyring.read(*(secret for secret in secrets if _is_readable(secret)))
            self._keyrings.put(secrets, keyring, _FOREVER)
        return keyring


def _is_readable(secret: str) -> bool:
    """A broken one is left out, as the kubelet does; the operator is told of it when it resolves the image."""
    try:
        Keyring.read(secret)
    except ValueError:
        return False
    return True
