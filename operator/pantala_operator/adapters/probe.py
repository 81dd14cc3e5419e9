"""The health port of peers over HTTP. The answers show whether the process of a silent peer runs.

The operator runs inside the cluster, so it connects only to an IP address, at the port of the probes. Any other text
could name another host, port or path. The operator follows no redirect, keeps no cookie and reads no body.
"""

from ipaddress import ip_address
from typing import Final

import aiohttp

TIMEOUT: Final = 2.0
"""Seconds until a peer must have answered. A peer whose process is frozen accepts connections, but sends no answer."""


class HTTPHealthProbe:
    """A :class:`pantala_operator.ports.HealthProbe`."""

    def __init__(self, port: int) -> None:
        """``port``: the port of the peers' probes, which is the same on all nodes."""
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def answers(self, name: str, host: str) -> bool:
        """All peers have the same port, so ``name`` is not needed."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # the request to one peer must not wait for the answers of other peers
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            )
        try:
            address = ip_address(host)
            where = f"[{address}]" if address.version == 6 else address
            async with self._session.get(f"http://{where}:{self._port}/healthz", allow_redirects=False) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
            return False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
