"""Which certificate authorities are trusted: those of the system, and those of an administrator."""

import ssl
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pycurl

from pantala_supernode.outbound.errors import Fault, OutboundError


class Trust:
    """The authorities for all requests. ``extra``: PEM files whose authorities are trusted everywhere."""

    def __init__(self, extra: Iterable[Path] = ()) -> None:
        self._extra = tuple(extra)

    def apply(self, handle: pycurl.Curl, own: Path | None) -> None:
        """Let a handle trust the system's authorities, the extra ones, and those of the file ``own``.

        Raises :class:`OutboundError` if a file has no readable certificate. A changed file counts from then on.
        """
        files = (*self._extra, own) if own is not None else self._extra
        system = ssl.get_default_verify_paths()
        if system.capath is not None:
            handle.setopt(pycurl.CAPATH, system.capath)
        if files:
            bundle = _bundle(system.cafile, tuple((path, _changed_at(path)) for path in files))
            handle.setopt(pycurl.CAINFO_BLOB, bundle)
            handle.setopt(pycurl.PROXY_CAINFO_BLOB, bundle)
        elif system.cafile is not None:
            handle.setopt(pycurl.CAINFO, system.cafile)
            handle.setopt(pycurl.PROXY_CAINFO, system.cafile)

    def check(self, own: Path | None = None) -> None:
        """Raise :class:`OutboundError` if a file cannot be used now."""
        self.apply(pycurl.Curl(), own)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        raise OutboundError(Fault.CERTIFICATE, f"the authority file {path} cannot be read") from None


@lru_cache(maxsize=64)
def _bundle(system: str | None, files: tuple[tuple[Path, int], ...]) -> bytes:
    found = [Path(system).read_bytes()] if system is not None else []
    for path, _ in files:
        try:
            ssl.create_default_context(cafile=str(path))
            found.append(path.read_bytes())
        except (OSError, ssl.SSLError):
            raise OutboundError(Fault.CERTIFICATE, f"the authority file {path} has no readable certificate") from None
    return b"\n".join(found)
