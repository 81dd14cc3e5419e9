"""Sends requests to the token servers of clouds. Errors quote only an answer's code: other parts may be secret."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

from pantala_process.settings import is_loopback
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.rules import foreign
from pantala_supernode.outbound.request import Request
from pantala_supernode.registry.errors import CloudIdentityError, InvalidAnswerError, RegistryError, raise_for_status
from pantala_supernode.registry.transport import RegistryTransport

_LIMIT = 256 * 1024
_CODE = re.compile(rb'(?:<Code>|"(?:__type|error|status|code)"\s*:\s*")([A-Za-z0-9_.#-]{1,80})[<"]')
"""The error's name in the answers of AWS (XML, JSON), Google and Azure."""
_MAX_TOKEN = 32 * 1024
T = TypeVar("T")


class TokenServer:
    """A server that exchanges one token for another. Error messages contain its ``name`` and ``advice``."""

    def __init__(self, transport: RegistryTransport, name: str, advice: str) -> None:
        self._transport = transport
        self._name = name
        self._advice = advice

    async def post(
        self, host: str, url: str, form: Mapping[str, str] | bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """POST a form or other bytes, to get credentials for the registry ``host``. Returns the body of the answer."""
        encoded = urlencode(form).encode() if isinstance(form, Mapping) else form
        return await self._ask(host, Request(url, {}, headers or {}, "POST", encoded))

    async def get(self, host: str, url: str, headers: Mapping[str, str], *, trusted: bool = False) -> bytes:
        """GET ``url``, for credentials for ``host``. Returns the body. A ``trusted`` URL is on this node (no TLS)."""
        return await self._ask(host, Request(url, {}, headers), trusted=trusted)

    def read(self, host: str, body: bytes, kind: type[T]) -> T:
        try:
            return foreign.read(body, kind)
        except ValueError:
            raise self.invalid(host) from None

    def invalid(self, host: str) -> RegistryError:
        return InvalidAnswerError.of(host, f"{self._name} did not send valid credentials")

    async def _ask(self, host: str, request: Request, *, trusted: bool = False) -> bytes:
        if not trusted:
            check_url(request.url, host)
        reply = await self._transport.ask(request, host, most=_LIMIT)
        if reply.status in (400, 401, 403, 404):
            match = _CODE.search(reply.body)
            code = f", {match[1].decode()}" if match else ""
            said = f"{self._name} refused the supernode's identity ({reply.status}{code}). {self._advice}"
            raise CloudIdentityError.of(host, said)
        raise_for_status(reply.status, reply.headers, f"{host}, {self._name}")
        return reply.body


async def token_of(file: Path, host: str) -> str:
    """The token in a file, which the kubelet renews. Raises :class:`CloudIdentityError`."""
    try:
        text = (await asyncio.to_thread(file.read_text)).strip()
    except (OSError, ValueError):
        raise CloudIdentityError.of(
            host, f"the supernode's token file {file} cannot be read. Check the service account and the pod's volumes"
        ) from None
    if not text or len(text) > _MAX_TOKEN or not (text.isascii() and text.isprintable()):
        raise CloudIdentityError.of(host, f"the supernode's token file {file} does not contain one token")
    return text


def check_url(url: str, host: str) -> None:
    """Raise :class:`CloudIdentityError` if the supernode's token would cross the network in clear text.

    A URL must have TLS, or a loopback address.
    """
    try:
        parts = urlsplit(url)
        scheme, name = parts.scheme, parts.hostname or ""
    except ValueError:
        scheme = name = ""
    if scheme == "https" and name:
        return
    if scheme != "http" or not is_loopback(name):
        raise CloudIdentityError.of(
            host, f"the supernode does not send its token to {RedactedURL(url)}, because this is not an https: URL"
        )
