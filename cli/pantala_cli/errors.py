"""The errors of the commands. Each message is one line that says what to do.

CLIError
├── KubeconfigError         the kubeconfig is missing or cannot be used
├── UnreachableError        no API server answers
├── UnauthorizedError       the API server does not know the user
├── PermissionMissingError  the user lacks permission
├── NotInstalledError       the cluster does not know Pantala's kinds
├── ObjectMissingError      the object does not exist
└── RefusedError            the API server rejected the request for another reason
"""


class CLIError(Exception):
    """The base class: the command prints the message as one line and exits with 1."""


class KubeconfigError(CLIError):
    """The kubeconfig is missing or cannot be used."""


class UnreachableError(CLIError):
    """No API server answers."""


class UnauthorizedError(CLIError):
    """The API server does not know the user."""


class PermissionMissingError(CLIError):
    """The user lacks permission."""


class NotInstalledError(CLIError):
    """The cluster does not serve Pantala's kinds."""


class ObjectMissingError(CLIError):
    """The object does not exist."""


class RefusedError(CLIError):
    """The API server rejected the request."""
