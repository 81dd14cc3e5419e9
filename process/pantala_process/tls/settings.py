"""The flags for TLS, which are the same in all processes that use it."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pantala_process import settings
from pantala_process.settings import SettingsError, flag


def _authority(text: str) -> str:
    url = settings.http_url(text)
    if urlsplit(url).scheme != "https":
        raise ValueError("is not an https URL. Give one like https://pantala-operator.pantala.svc:8443.")
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSFlags:
    """Where a process finds its certificate. Without these flags it speaks plain HTTP."""

    tls_dir: Path | None = flag(
        Path, "DIR", "folder for this process's key and certificate, identity.pem (default: plain HTTP)", default=None
    )
    tls_ca: Path | None = flag(
        Path, "FILE", "certificates of the authorities that sign those of all processes, needed with --tls-dir",
        default=None,
    )  # fmt: skip
    tls_authority: str = flag(
        _authority, "URL", "the operator's signing endpoint (default: another program renews --tls-dir)", default=""
    )

    tls_look: float = 5.0
    """Seconds between two looks at the files."""

    def check_tls(self) -> None:
        """Raise :class:`SettingsError` if one of the flags lacks another one."""
        if (self.tls_dir is None) != (self.tls_ca is None) or (self.tls_authority and self.tls_dir is None):
            raise SettingsError("TLS needs both --tls-dir and --tls-ca. Give both, or none and no --tls-authority.")
