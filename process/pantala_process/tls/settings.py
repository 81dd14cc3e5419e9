"""The flags for TLS, which are the same in all processes that use it."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pantala_process import settings
from pantala_process.settings import SettingsError, flag


def _authority(text: str) -> str:
    url = settings.http_url(text)
    if urlsplit(url).scheme != "https":
        raise ValueError("is not an https URL. Give a URL like https://pantala-operator.pantala.svc:8443.")
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSFlags:
    """Where a process finds its certificate. Without these flags, the process uses plain HTTP."""

    tls_dir: Path | None = flag(
        Path, "DIR", "folder for this process's key and certificate, identity.pem (default: plain HTTP)", default=None
    )
    tls_ca: Path | None = flag(
        Path, "FILE", "authorities that sign the certificates of all processes, as PEM; needed with --tls-dir",
        default=None,
    )  # fmt: skip
    tls_authority: str = flag(
        _authority, "URL", "the operator's signing endpoint (default: another program renews --tls-dir)", default=""
    )

    tls_look: float = 5.0
    """Seconds between two checks whether the files have changed."""

    def check_tls(self) -> None:
        """Raise :class:`SettingsError` if a flag is given without a flag that it needs."""
        if (self.tls_dir is None) != (self.tls_ca is None) or (self.tls_authority and self.tls_dir is None):
            raise SettingsError("TLS needs both --tls-dir and --tls-ca. Give both, or give no --tls flag.")
