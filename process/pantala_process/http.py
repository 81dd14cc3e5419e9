"""HTTP helpers of all processes: bounded bodies, bearer tokens, and one format for errors."""

import os
import ssl
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from pantala_protocol.rules import text
from pantala_protocol.rules.fields import decode


class TooLargeError(aiohttp.ClientPayloadError):
    """The body of an answer is larger than its limit."""


async def read_bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body, of at most ``limit`` bytes. Raises :class:`TooLargeError`."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"the answer is larger than {limit} bytes")
    return bytes(body)


def connection_problem(error: Exception) -> str:
    """Why a request had no answer, without the URL, which may contain secrets."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "unknown host name"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not valid"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError) or "[SSL" in str(error):  # aiohttp may wrap SSLError
        return "the TLS connection failed"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "its answer is not valid" if isinstance(error, ValueError) else "the connection ended"


class TokenFileError(OSError):
    """The token file cannot be used. The message says what to do."""


def bearer(token_file: Path | None) -> dict[str, str]:
    """The ``Authorization`` header with the token in a file. Without a file, the result is empty.

    The kubelet replaces the file, so call this for each request. Raises :class:`TokenFileError`.
    """
    if token_file is None:
        return {}
    try:
        token = token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is not ASCII text"
        text = f"the token file {token_file} cannot be read: {reason}. Let this process read it, or name another file"
        raise TokenFileError(text) from error
    if not token.isprintable():
        text = f"the token file {token_file} cannot be used: it must be one line of printable text. Write it again"
        raise TokenFileError(text)
    return {"Authorization": f"Bearer {token}"}


class ErrorDetail(msgspec.Struct, frozen=True):
    """The part of an error answer that says why the request failed."""

    reason: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        text.clean_fields(self, reason=text.LABEL, message=text.MESSAGE)


class ErrorBody(msgspec.Struct, frozen=True):
    """The JSON body of every error answer of Pantala's processes."""

    error: ErrorDetail


def error_response(status: int, reason: str, message: str, **headers: str) -> web.Response:
    return json_response(ErrorBody(ErrorDetail(reason, message)), status, **headers)


def json_response(body: object, status: int = 200, **headers: str) -> web.Response:
    encoded = msgspec.json.encode(body)
    return web.Response(status=status, body=encoded, content_type="application/json", headers=headers)


def error_detail(body: bytes) -> ErrorDetail | None:
    """Read the body of an error answer. ``None`` if it is not an :class:`ErrorBody`."""
    try:
        return decode(body, ErrorBody).error
    except ValueError:
        return None
