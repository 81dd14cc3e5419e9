"""Decides when the authority changes.

Processes trust a new authority before it signs, and a former authority for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pantala_operator.authority.issuer import CertificateIssuer
from pantala_process.tls import certificates

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class AuthorityTiming:
    """The times of certificates, in seconds."""

    authority: float = 365 * _DAY
    """The life of an authority that the operator makes."""
    certificate: float = 7 * _DAY
    """The life of a process's certificate."""
    overlap: float = 3600.0
    """From the publication of a new authority until it signs. Pods see a changed ConfigMap after a minute or two."""


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """The authorities, as the Secret has them."""

    current: CertificateIssuer | None = None
    """The authority that signs certificates."""
    following: CertificateIssuer | None = None
    """The authority that signs next."""
    published_at: float = 0.0
    """When ``following`` was made, in seconds since the epoch."""
    former: bytes = b""
    """The certificate of the authority that signed before. Empty: no certificate of a former authority is in use."""
    replaced_at: float = 0.0
    """When ``former`` was replaced."""

    @property
    def bundle(self) -> bytes:
        """The certificates that processes must trust."""
        issuers = (self.current, self.following)
        found = [*(each.certificate for each in issuers if each is not None), self.former]
        return b"".join(each.strip() + b"\n" for each in found if each)

    def advance(
        self, given: CertificateIssuer | None, *, external: bool, now: float, timing: AuthorityTiming
    ) -> AuthorityState:
        """The state that must apply now. ``given``: the authority from cert-manager, if ``external``."""
        state = self
        if state.current is None or now >= state.current.facts.ends:
            first = given if external else CertificateIssuer.new(now=now, lifetime=timing.authority)
            return state if first is None else AuthorityState(first)
        if state.former and now >= state.replaced_at + timing.certificate:
            state = replace(state, former=b"", replaced_at=0.0)
        wanted = given if external else state.following
        due = now >= certificates.facts(self._signer.certificate).renewal()
        if not external and wanted is None and due:
            wanted = CertificateIssuer.new(now=now, lifetime=timing.authority)
        if wanted == state.current:
            wanted = None
        if wanted is not None and wanted != state.following:
            state = replace(state, following=wanted, published_at=now)
        if state.following is not None and not state.former and now >= state.published_at + timing.overlap:
            state = AuthorityState(state.following, former=self._signer.certificate, replaced_at=now)
        return state

    @property
    def _signer(self) -> CertificateIssuer:
        if self.current is None:
            raise ValueError("the first authority is not made yet")
        return self.current

    @classmethod
    def of(cls, data: Mapping[str, bytes]) -> AuthorityState:
        """Read the data of the Secret. Raises :class:`CertificateError`."""
        return cls(
            _issuer(data, "ca"),
            _issuer(data, "next"),
            float(data.get("next.since") or 0),
            data.get("old.crt", b""),
            float(data.get("old.since") or 0),
        )

    def data(self) -> dict[str, bytes | None]:
        """The data of the Secret. ``None``: the key must not exist."""
        return {
            "ca.crt": self.current.certificate if self.current else None,
            "ca.key": self.current.key if self.current else None,
            "next.crt": self.following.certificate if self.following else None,
            "next.key": self.following.key if self.following else None,
            "next.since": f"{self.published_at:.0f}".encode() if self.following else None,
            "old.crt": self.former or None,
            "old.since": f"{self.replaced_at:.0f}".encode() if self.former else None,
        }


def _issuer(data: Mapping[str, bytes], name: str) -> CertificateIssuer | None:
    certificate, key = data.get(f"{name}.crt"), data.get(f"{name}.key")
    return CertificateIssuer(certificate, key) if certificate and key else None
