"""The errors of the commands. Each message is one line that says what to do.

CLIError
├── KubeconfigError         the kubeconfig is missing or cannot be used
├── UnreachableError        no API server answers
├── UnauthorizedError       the API server rejects the user's credentials
├── PermissionMissingError  the user lacks permission
├── NotInstalledError       the cluster does not know Pantala's kinds
├── ObjectMissingError      the object does not exist
├── ForeignLabelsError      objects in several namespaces have Pantala's labels
├── ConsoleError            the operator's console cannot be reached
└── WaitError               an object failed, or did not reach the condition in time
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    OK = 0
    FAILED = 1
    """The request failed, a check failed, or an object is not ready."""
    USAGE = 2
    """A command, a flag or an argument is invalid."""
    UNREACHABLE = 3
    """The kubeconfig cannot be used, or the API server or the console does not answer."""
    FORBIDDEN = 4
    """The API server rejects the credentials, or the user lacks permission."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CLIError(Exception):
    """The base class: the command prints the message as one line and exits with ``code``."""

    code = ExitCode.FAILED


class KubeconfigError(CLIError):
    """The kubeconfig is missing or cannot be used."""

    code = ExitCode.UNREACHABLE


class UnreachableError(CLIError):
    """No API server answers."""

    code = ExitCode.UNREACHABLE


class UnauthorizedError(CLIError):
    """The API server rejects the user's credentials."""

    code = ExitCode.FORBIDDEN


class PermissionMissingError(CLIError):
    """The user lacks permission."""

    code = ExitCode.FORBIDDEN


class NotInstalledError(CLIError):
    """The cluster does not serve Pantala's kinds."""


class ObjectMissingError(CLIError):
    """The object does not exist."""


class ForeignLabelsError(CLIError):
    """Objects in several namespaces have the labels of one of Pantala's processes."""


class ConsoleError(CLIError):
    """The operator's console cannot be reached."""

    code = ExitCode.UNREACHABLE


class WaitError(CLIError):
    """An object failed, or did not reach the condition in time."""
