"""The errors of containerd's files, as one tree below the peer's.

::

    PeerError
    └── ContainerdError
        ├── UnusableFileError   a hosts.toml that cannot be extended; it stays as it is, with a note
        └── FolderError         certs.d or the state cannot be read or written; a new run continues
"""

from pantala_peer.errors import PeerError


class ContainerdError(PeerError):
    """containerd's configuration could not be changed as requested."""


class UnusableFileError(ContainerdError):
    """The peer cannot add its part to this file without damage."""


class FolderError(ContainerdError):
    """``certs.d``, or our record of it, cannot be read or written."""
