"""What can go wrong with containerd's files, as one tree below the peer's.

::

    PeerError
    └── ContainerdError
        ├── UnusableFileError   a hosts.toml that cannot be worked with; it is left as it is, and that is said
        └── FolderError         certs.d or the state cannot be read or written; trying again takes up where it ended
"""

from __future__ import annotations

from pantala_peer.errors import PeerError


class ContainerdError(PeerError):
    """containerd's configuration is not what was asked for."""


class UnusableFileError(ContainerdError):
    """A file that we could only harm."""


class FolderError(ContainerdError):
    """The disk refuses."""
