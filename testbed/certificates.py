"""Certificates for processes in tests and benches, signed by an authority like the operator's."""

import time
from pathlib import Path

from pantala_operator.authority.issuer import CertificateIssuer
from pantala_process.tls import certificates
from pantala_process.tls.contexts import TLSContexts
from pantala_process.tls.keeper import FILE

DAY = 86400.0


class ProcessAuthority:
    """An authority that signs any name."""

    def __init__(self) -> None:
        self.issuer = CertificateIssuer.new(now=time.time(), lifetime=30 * DAY)

    @property
    def bundle(self) -> bytes:
        return self.issuer.certificate

    def identity(self, *names: str, now: float | None = None, lifetime: float = DAY) -> bytes:
        """A key and its certificate."""
        key = certificates.new_key()
        request = certificates.signing_request(key)
        return key + self.issuer.sign(request, names, now=now or time.time(), lifetime=lifetime)

    def contexts(self, *names: str, trusts: bytes | None = None, now: float | None = None) -> TLSContexts:
        """The contexts of a process with these names."""
        made = TLSContexts()
        made.load(names[0], self.identity(*names, now=now), self.bundle if trusts is None else trusts)
        return made

    def flags(self, folder: Path, *names: str) -> tuple[str, ...]:
        """Write the files of a process into a folder. Returns its flags."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(self.identity(*names))
        (folder / "ca.crt").write_bytes(self.bundle)
        return ("--tls-dir", str(folder), "--tls-ca", str(folder / "ca.crt"))
