"""Gets this process's certificate and renews it. Loads it again when the certificate or the authorities change."""

import asyncio
import contextlib
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import structlog

from pantala_process.backoff import Backoff
from pantala_process.tls import authority, certificates
from pantala_process.tls.certificates import CertificateError, CertificateFacts
from pantala_process.tls.contexts import TLSContexts
from pantala_process.tls.settings import TLSFlags

FILE = "identity.pem"
"""The file with the process's key and certificate. It is replaced as a whole, so the two always match."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""The first and the longest pause after a failed request for a certificate, in seconds."""

_SPREAD = 0.1
"""The part of a certificate's life over which renewals are spread, so that nodes do not all renew at once."""

log = structlog.get_logger()


SignRequest = Callable[[bytes, bytes], Awaitable[bytes]]
"""Asks the operator for a certificate, with a request and the trusted authorities. Raises :class:`CertificateError`."""


def keeper_of(flags: TLSFlags, token_file: Path | None) -> "CertificateKeeper | None":
    """The keeper of the certificate. ``None``: the flags are not given, so the process uses plain HTTP."""
    if flags.tls_dir is None or flags.tls_ca is None:
        return None
    sign = partial(authority.sign, flags.tls_authority, token_file) if flags.tls_authority else None
    return CertificateKeeper(flags.tls_dir, flags.tls_ca, TLSContexts(), sign, look=flags.tls_look)


class _Loaded(NamedTuple):
    identity: bytes
    authorities: bytes
    facts: CertificateFacts


class CertificateKeeper:
    """Keeps the key and the certificate in one file, ``identity.pem``, and loads them into ``contexts``.

    Without ``sign``, another program writes the file. ``wall`` returns seconds since the epoch.
    """

    def __init__(
        self,
        folder: Path,
        authorities: Path,
        contexts: TLSContexts,
        sign: SignRequest | None,
        *,
        wall: Callable[[], float] = time.time,
        look: float = 5.0,
    ) -> None:
        self.problem = "the process has no certificate yet"
        """Why the process lacks a valid certificate. Empty: the certificate is valid."""
        self._file = folder / FILE
        self._authorities_file = authorities
        self.contexts = contexts
        self._sign = sign
        self._wall = wall
        self._look = look
        self._loaded: _Loaded | None = None
        self._spread = random.uniform(0, _SPREAD)  # noqa: S311 - it spreads renewals over time
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._try_at = 0.0
        self._refusal = ""
        """Why the last request for a certificate failed. Empty if it succeeded."""
        self._logged = ""

    async def obtain(self) -> None:
        """Return when a valid certificate is loaded."""
        while True:
            await self._step()
            if self._loaded is not None and not self.problem:
                log.info("the process has a certificate", name=self.contexts.name)
                return
            await asyncio.sleep(min(self._look, 0.5))

    async def run(self) -> None:
        """Renew and reload until cancelled."""
        while True:
            await asyncio.sleep(self._look)
            try:
                await self._step()
            except Exception:
                log.exception("the certificate was not renewed because of a bug; the process tries again")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Get a certificate, and keep it valid while the block runs."""
        await self.obtain()
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _step(self) -> None:
        """Load the files if they changed, and get a new certificate if it is time."""
        try:
            await asyncio.to_thread(self._reload)
            problem = ""
        except (CertificateError, OSError, ValueError) as error:
            problem = str(error)
        if self._sign is not None and self._due(problem):
            problem = await self._renew(self._sign, problem)
        elif problem:
            problem = self._refusal or problem
        self.problem = problem
        if problem and problem != self._logged:
            log.warning("the process waits for its certificate", reason=problem)
        self._logged = problem

    def _due(self, problem: str) -> bool:
        if time.monotonic() < self._try_at:
            return False
        if problem or self._loaded is None:
            return True
        facts = self._loaded.facts
        return self._wall() >= facts.renewal() + self._spread * (facts.ends - facts.begins)

    async def _renew(self, sign: SignRequest, problem: str) -> str:
        """Get and load a new certificate. Takes and returns why the process lacks a certificate, or an empty text."""
        try:
            authorities = await asyncio.to_thread(self._read_authorities)
            key = certificates.new_key()
            identity = key + await sign(certificates.signing_request(key), authorities)
            certificates.check(identity, authorities, now=self._wall())
            await asyncio.to_thread(self._write, identity)
            await asyncio.to_thread(self._reload)
        except (CertificateError, OSError, ValueError) as error:
            self._try_at = time.monotonic() + self._backoff.next()
            if not problem and str(error) != self._refusal:
                log.warning("the certificate cannot be renewed; it is still valid", reason=str(error))
            self._refusal = str(error)
            return self._refusal if problem else ""
        self._backoff.reset()
        self._refusal = ""
        return ""

    def _read_authorities(self) -> bytes:
        authorities = self._authorities_file.read_bytes()
        if not certificates.trusted(authorities):
            raise CertificateError(f"{self._authorities_file} has no certificate yet; the operator writes it")
        return authorities

    def _reload(self) -> None:
        """Load the files if they differ from those in use. Raises if the certificate is not valid."""
        authorities = self._read_authorities()
        try:
            identity = self._file.read_bytes()
        except FileNotFoundError:
            raise CertificateError("the process has no certificate yet") from None
        facts = certificates.check(identity, authorities, now=self._wall())
        before = self._loaded
        if before is not None and before[:2] == (identity, authorities):
            return
        try:
            self.contexts.load(facts.names[0], identity, authorities)
        except ssl.SSLError as error:
            raise CertificateError(f"the certificate cannot be loaded: {error}") from error
        self._loaded = _Loaded(identity, authorities, facts)
        if before is not None:
            log.info("a new certificate or a new list of authorities is in use", name=facts.names[0])

    def _write(self, identity: bytes) -> None:
        new = self._file.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(identity)
            file.flush()
            os.fsync(descriptor)
        new.rename(self._file)
