"""The quotas of namespaces, as the operator and the supernodes read them from their flags. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from pantala_protocol.rules import quantity
from pantala_protocol.rules.text import split_list

_SIZE = re.compile(r"[0-9]{1,9}([KMGT]i)?")
EVERY = "*"
"""Stands for each namespace that has no quotas of its own."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The quotas of one namespace. ``None``: no limit."""

    bytes: int | None = None
    """The most bytes of files that each supernode keeps for the namespace."""
    daily: int | None = None
    """The most bytes that each supernode reads from origins for the namespace within a day (UTC)."""
    tasks: int | None = None
    """The most Tasks that a user may create in the namespace."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of all namespaces."""

    default: Quota = field(default_factory=Quota)
    namespaces: Mapping[str, Quota] = field(default_factory=dict)

    def of(self, namespace: str) -> Quota:
        return self.namespaces.get(namespace, self.default)

    def __bool__(self) -> bool:
        """True if any namespace has a limit."""
        return any(each != Quota() for each in (self.default, *self.namespaces.values()))


def quotas(text: str) -> Quotas:
    """Read ``*=bytes:10Gi;daily:1Ti;tasks:100,team-a=bytes:1Ti``. Raises :class:`ValueError`.

    A namespace has the default for each quota that it does not set, and no limit for one that it sets to ``none``.
    """
    given: dict[str, str] = {}
    for part in split_list(text):
        namespace, equals, limits = part.partition("=")
        if not equals or not namespace or namespace in given:
            raise ValueError("is not a list of namespaces and quotas. Write NAMESPACE=bytes:SIZE;daily:SIZE;tasks:N.")
        given[namespace] = limits
    default = _quota(given.pop(EVERY, ""), Quota())
    return Quotas(default, {namespace: _quota(limits, default) for namespace, limits in given.items()})


def _quota(text: str, default: Quota) -> Quota:
    found: dict[str, int | None] = {}
    for part in split_list(text, ";"):
        name, _, limit = part.partition(":")
        if name not in {each.name for each in fields(Quota)}:
            raise ValueError(f"names the quota {name[:40]!r}. The quotas are bytes, daily and tasks.")
        found[name] = None if limit == "none" else _limit(name, limit)
    return replace(default, **found)


def _limit(name: str, text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or (name == "tasks" and match[1]):
        raise ValueError(f"has the quota {name}:{text[:40]}. Write a number. Sizes may end in Ki, Mi, Gi or Ti.")
    return quantity.parse(text)
