"""Why the mirror does not serve a request: subclasses of the peer's error. containerd gets a 404 for each.

::

    PeerError
    └── MirrorError                 the content is missing or not permitted, or the request lacks the mirror's header
        ├── ProbeMissError          the request is the peer's own probe, which always gets a 404
        ├── OwnerUnreachableError   the supernode that owns the content does not answer
        └── SlowError               the content is late; the mirror answers 404 for its repository for 30 s
"""

from pantala_peer.errors import PeerError


class MirrorError(PeerError):
    """The mirror does not serve a request. containerd then asks the registry itself."""


class ProbeMissError(MirrorError):
    """The request is the peer's own probe of containerd's configuration. The requested image does not exist."""


class OwnerUnreachableError(MirrorError):
    """The supernode that owns the content does not answer."""


class SlowError(MirrorError):
    """The content did not arrive before the deadline."""
