"""Why the mirror does not serve something, as a branch of the peer's tree. All of it is 404 to containerd.

::

    PeerError
    └── MirrorError             a miss: not here, not allowed, not asked for in our way
        ├── UnreachableError    the supernode whose it is does not answer
        └── SlowError           it did not come in time; the repository is left alone for a while
"""

from __future__ import annotations

from pantala_peer.errors import PeerError


class MirrorError(PeerError):
    """There is nothing to serve. containerd asks the registry itself."""


class UnreachableError(MirrorError):
    """Nobody is there to be asked."""


class SlowError(MirrorError):
    """Nothing came in time."""
