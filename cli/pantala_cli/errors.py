"""What can go wrong for a user, each with one line that says what to do.

CLIError
├── KubeconfigError     no kubeconfig, or one that cannot be used
├── UnreachableError    no API server answers
├── UnauthorizedError   the API server does not know the user
├── ForbiddenError      the user's rights do not suffice
├── NotInstalledError   the cluster has no such kind: Pantala is not installed there
├── NotFoundError       no such object
└── RefusedError        the API server refused the request for another reason
"""

from __future__ import annotations


class CLIError(Exception):
    """Shown as one line; the process ends with 1."""


class KubeconfigError(CLIError):
    """There is no kubeconfig, or it cannot be used."""


class UnreachableError(CLIError):
    """No API server answers."""


class UnauthorizedError(CLIError):
    """The API server does not know the user."""


class ForbiddenError(CLIError):
    """The user's rights do not suffice."""


class NotInstalledError(CLIError):
    """The cluster does not serve Pantala's kinds."""


class NotFoundError(CLIError):
    """There is no such object."""


class RefusedError(CLIError):
    """The API server refused the request."""
