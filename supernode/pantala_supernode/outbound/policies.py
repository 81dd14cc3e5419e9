"""The sources that the administrator allows, by flags or by the SourcePolicies in the statement."""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import structlog

from pantala_protocol.rules import sources
from pantala_protocol.rules.sources import Network
from pantala_protocol.statement import SourceRule, Statement
from pantala_supernode.events import Event

_log = structlog.get_logger(__name__)

_PORT = re.compile(r"(.*?):([0-9]{1,5})")


class Allowance(NamedTuple):
    """A rule whose networks are parsed."""

    rule: SourceRule
    networks: tuple[Network, ...]

    def covers(self, host: str, port: int, address: IPv4Address | IPv6Address | None) -> bool:
        """True if the rule matches a connection. ``address`` is ``None`` if only the proxy knows it."""
        rule = self.rule
        if rule.ports and port not in rule.ports:
            return False
        if rule.hosts and not any(sources.matches(pattern, host) for pattern in rule.hosts):
            return False
        if not self.networks:
            return bool(rule.hosts)
        return address is not None and any(address in network for network in self.networks)


class SourcePolicies:
    """All rules in force. Threads may read them while a new statement replaces them."""

    def __init__(self, fixed: Iterable[SourceRule] = ()) -> None:
        """``fixed``: the rules of the supernode's flags. Raises :class:`ValueError` for an invalid network."""
        self._fixed = tuple(_allowance(rule) for rule in fixed)
        self._stated: tuple[Allowance, ...] = ()
        self._rules: tuple[SourceRule, ...] = ()
        self.changed = Event[[]]()
        """Published when a statement has other rules than the statement before."""

    def take(self, statement: Statement) -> None:
        """Replace the rules of the statement before. A rule that this version cannot read allows nothing."""
        if statement.sources == self._rules:
            return
        found = []
        for rule in statement.sources:
            try:
                found.append(_allowance(rule))
            except ValueError as error:
                _log.warning("cannot read a SourcePolicy, so it allows nothing", policy=rule.name, error=str(error))
        self._stated, self._rules = tuple(found), statement.sources
        _log.info("the SourcePolicies in force changed", policies=[each.rule.name for each in found])
        self.changed.publish()

    def covering(self, host: str, port: int, address: IPv4Address | IPv6Address | None) -> Iterator[SourceRule]:
        """The rules that match a connection."""
        return (each.rule for each in (*self._fixed, *self._stated) if each.covers(host, port, address))

    def authorities(self, host: str) -> tuple[str, ...]:
        """The certificate authorities for a host, in PEM."""
        rules = (each.rule for each in (*self._fixed, *self._stated) if each.rule.authorities)
        return tuple(
            rule.authorities for rule in rules if any(sources.matches(pattern, host) for pattern in rule.hosts)
        )


def rule(text: str, name: str) -> SourceRule:
    """Read one entry of a list: a network, an address or a host, each also with ``:PORT``. ``name`` names the list.

    Raises :class:`ValueError` with the end of a sentence that begins with the entry.
    """
    try:
        return SourceRule(name, networks=(str(sources.network(text)),))
    except ValueError:
        match = _PORT.fullmatch(text)
        host, port = (match[1], int(match[2])) if match else (text, 0)
        ports = (port,) if match else ()
    if match:
        try:
            return SourceRule(name, networks=(str(sources.network(host)),), ports=ports)
        except ValueError:
            pass
    if not sources.is_host(host.lower()) or port > 65535:
        raise ValueError("is not a network or a host. Give entries like 10.0.0.0/8, files.corp or *.corp:8443.")
    return SourceRule(name, hosts=(host.lower(),), ports=ports)


def _allowance(found: SourceRule) -> Allowance:
    if not found.hosts and not found.networks:
        raise ValueError("has neither hosts nor networks")
    return Allowance(found, tuple(sources.network(text) for text in found.networks))
