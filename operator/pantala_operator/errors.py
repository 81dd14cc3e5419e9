"""The errors that the operator raises.

    OperatorError
    ├── ClusterError                    a call to the API server failed
    │   ├── ClusterUnavailableError     no answer, or a server error: temporary
    │   ├── ClusterForbiddenError       a permission is missing: works when it is granted
    │   ├── ClusterNotFoundError        the object or its kind does not exist
    │   ├── ClusterConflictError        the object has changed since it was read: read it again
    │   └── ClusterRejectedError        the request is not valid: trying again changes nothing
    ├── NotLeadingError                 another replica leads, so this replica may not write
    ├── LeaseLostError                  another replica has taken the Lease: the process ends, and restarts
    └── SupernodeCallError              a call to a supernode failed
        ├── SupernodeUnavailableError   no answer, or a server error: temporary
        └── SupernodeRefusedError       it rejected the request
            └── SupernodeOlderError     it does not have the route, because its version is older

The operator plans again after each error, except after ``LeaseLostError``.
"""


class OperatorError(Exception):
    """The base class of the operator's own errors."""


class ClusterError(OperatorError):
    """A call to the API server failed."""


class ClusterUnavailableError(ClusterError):
    """The API server did not answer, or answered with a server error."""


class ClusterForbiddenError(ClusterError):
    """A permission is missing. The message names it."""


class ClusterNotFoundError(ClusterError):
    """The object or its kind does not exist."""


class ClusterConflictError(ClusterError):
    """The object has changed since it was read."""


class NotLeadingError(OperatorError):
    """Another replica leads, so this replica may not write."""


class LeaseLostError(OperatorError):
    """Another replica has taken the Lease from this replica."""


class ClusterRejectedError(ClusterError):
    """The API server finds the request invalid."""


class SupernodeCallError(OperatorError):
    """A call to a supernode failed."""


class SupernodeUnavailableError(SupernodeCallError):
    """The supernode did not answer, or answered with a server error."""


class SupernodeRefusedError(SupernodeCallError):
    """The supernode rejected the request, or sent an answer that is not valid."""


class SupernodeOlderError(SupernodeRefusedError):
    """The supernode does not have the route, because its version is older."""
