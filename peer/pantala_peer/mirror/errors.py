"""Why the mirror does not serve something, as a branch of the peer's tree. containerd gets a 404 for each.

::

    PeerError
    └── MirrorError                 a miss: not here, not permitted, or not requested by our hosts.toml
        ├── ProbeMissError          only the peer's own probe, which must miss
        ├── OwnerUnreachableError   the supernode that owns it does not answer
        └── SlowError               it did not come in time; the repository is left alone for a while
"""

from pantala_peer.errors import PeerError


class MirrorError(PeerError):
    """The mirror does not serve a request. containerd then asks the registry itself."""


class ProbeMissError(MirrorError):
    """The request is the peer's own probe of containerd's configuration. Such an image does not exist."""


class OwnerUnreachableError(MirrorError):
    """The supernode that owns the content does not answer."""


class SlowError(MirrorError):
    """The content did not arrive before the deadline."""
