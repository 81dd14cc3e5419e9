"""The names of processes in their certificates, such as ``node-1.peer.pantala``. Pure.

The operator signs only the name that the process's token proves. It is the first name in the certificate.
"""

from enum import StrEnum
from typing import NamedTuple


class ProcessRole(StrEnum):
    """What a process is."""

    PEER = "peer"
    SUPERNODE = "supernode"
    OPERATOR = "operator"


class ProcessName(NamedTuple):
    """The name of one process."""

    role: ProcessRole
    holder: str
    """The node of a peer; the pod of a supernode or an operator."""

    def __str__(self) -> str:
        return f"{self.holder}.{self.role}{_DOMAIN}"


def parse(text: str) -> ProcessName | None:
    """Read a name. ``None`` if it is not the name of a process."""
    holder, _, role = text.removesuffix(_DOMAIN).rpartition(".")
    if not text.endswith(_DOMAIN) or not holder or role not in _ROLES:
        return None
    return ProcessName(_ROLES[role], holder)


def of_peer(node: str) -> str:
    """The name of the peer on a node."""
    return f"{node}.peer{_DOMAIN}"


_DOMAIN = ".pantala"
_ROLES = {role.value: role for role in ProcessRole}
