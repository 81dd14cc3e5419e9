"""What can go wrong between the operator and those it talks to.

    OperatorError
    ├── ClusterError                 the API server did not do what was asked
    │   ├── ClusterUnavailableError  no answer, or a server error: passes
    │   ├── ForbiddenError           a permission is missing: passes when it is given
    │   ├── NotFoundError            the object, or its kind, is not there
    │   ├── ConflictError            the object changed since it was read: read it again
    │   └── RejectedError            the request is not valid, trying it again changes nothing
    ├── SupernodeError               the supernode did not do what was asked
    │   ├── SupernodeUnavailableError  no answer, or a server error: passes
    │   └── SupernodeRefusedError      it answered, and said no
    └── SettingsError                a flag or variable has no usable value

All but the last are met by going on and trying again.
"""

from __future__ import annotations


class OperatorError(Exception):
    """The root of all that the operator raises on purpose."""


class ClusterError(OperatorError):
    """The API server did not do what was asked."""


class ClusterUnavailableError(ClusterError):
    """No answer from the API server, or a server error."""


class ClusterForbiddenError(ClusterError):
    """The API server says that a permission is missing; the message names it."""


class ClusterNotFoundError(ClusterError):
    """The object, or its kind, is not there."""


class ClusterConflictError(ClusterError):
    """The object changed since it was read."""


class ClusterRejectedError(ClusterError):
    """The API server finds the request invalid."""


class SupernodeCallError(OperatorError):
    """The supernode did not do what was asked."""


class SupernodeUnavailableError(SupernodeCallError):
    """No answer from the supernode, or a server error."""


class SupernodeRefusedError(SupernodeCallError):
    """The supernode answered, and said no."""


class SettingsError(OperatorError):
    """A flag or an environment variable has no usable value."""
