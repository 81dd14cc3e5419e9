"""Whether containerd asks this mirror: a pull of a name that only the mirror knows was seen, or passed it by."""

from __future__ import annotations

from typing import NamedTuple


class Sighting(NamedTuple):
    """A probe's request. None was ever served: its pull fails, as it should."""

    node: str
    """Whose probe it says that it is."""
    in_force: bool
    """It came by our ``hosts.toml``. False: containerd took us for the registry, so it does not read the folder."""
    at: float
    """Seconds since the epoch."""
