"""Decides which certificate authorities are trusted: the system's, and those that the administrator adds."""

import ssl
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pycurl

from pantala_supernode.outbound.errors import Fault, OutboundError
from pantala_supernode.outbound.policies import SourcePolicies

ALL = "*"
"""Stands for all hosts."""


class Trust:
    """The additional authorities: pairs of a host (or :data:`ALL`) and a PEM file, and those in ``policies``."""

    def __init__(self, authorities: Iterable[tuple[str, Path]] = (), policies: SourcePolicies | None = None) -> None:
        self._policies = policies or SourcePolicies()
        self._authorities = tuple((host.lower(), path) for host, path in authorities)

    def apply(self, handle: pycurl.Curl, host: str, own: Path | None = None) -> None:
        """Let a handle trust the system's authorities, the authorities for ``host``, and those in the file ``own``.

        A changed file is read again. Raises :class:`OutboundError` if a file has no readable certificate.
        """
        files = self._files(host) if own is None else (*self._files(host), own)
        texts = self._policies.authorities(host)
        _set(handle, files, texts, pycurl.CAPATH, pycurl.CAINFO, pycurl.CAINFO_BLOB)

    def apply_to_proxy(self, handle: pycurl.Curl, host: str) -> None:
        """Let a handle trust a proxy's certificate by the system's authorities and the authorities for ``host``."""
        _set(handle, self._files(host), (), pycurl.PROXY_CAPATH, pycurl.PROXY_CAINFO, pycurl.PROXY_CAINFO_BLOB)

    def _files(self, host: str) -> tuple[Path, ...]:
        return tuple(path for name, path in self._authorities if name in (ALL, host.lower()))


def check(*files: Path) -> None:
    """Raise :class:`OutboundError` if one of the authority files cannot be used now."""
    for file in files:
        _bundle(None, ((file, _changed_at(file)),), ())


def _set(
    handle: pycurl.Curl, files: tuple[Path, ...], texts: tuple[str, ...], folder: int, file: int, blob: int
) -> None:
    system = ssl.get_default_verify_paths()
    if system.capath is not None:
        handle.setopt(folder, system.capath)
    if files or texts:
        handle.setopt(blob, _bundle(system.cafile, tuple((path, _changed_at(path)) for path in files), texts))
    elif system.cafile is not None:
        handle.setopt(file, system.cafile)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        raise OutboundError(Fault.CERTIFICATE, f"the authority file {path} cannot be read") from None


@lru_cache(maxsize=64)
def _bundle(system: str | None, files: tuple[tuple[Path, int], ...], texts: tuple[str, ...]) -> bytes:
    found = [Path(system).read_bytes()] if system is not None else []
    for path, _ in files:
        try:
            ssl.create_default_context(cafile=str(path))
            found.append(path.read_bytes())
        except (OSError, ssl.SSLError):
            raise OutboundError(Fault.CERTIFICATE, f"the authority file {path} has no readable certificate") from None
    return b"\n".join((*found, *(text.encode() for text in texts)))
