"""The errors of containerd's files, as subclasses of the peer's error.

::

    PeerError
    ├── UnusableFileError   a hosts.toml that cannot be extended; the file is not changed, and a note says why
    └── FolderError         certs.d or the record cannot be read or written; a new run continues
"""

from pantala_peer.errors import PeerError


class UnusableFileError(PeerError):
    """The peer cannot add its part to this file without damage."""


class FolderError(PeerError):
    """``certs.d``, or the peer's record of it, cannot be read or written."""
