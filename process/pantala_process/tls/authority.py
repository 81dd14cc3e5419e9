"""Asks the operator to sign a request for a certificate."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from pantala_process.http import bearer, error_detail, read_bounded
from pantala_process.tls.certificates import CertificateError
from pantala_process.tls.contexts import client_only

PATH = "/api/v1/certificates"
"""The path of the signing endpoint."""

_MAX_ANSWER = 64 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)


async def sign(url: str, token_file: Path | None, request: bytes, authorities: bytes) -> bytes:
    """Ask the signing endpoint at ``url``, with the process's token. Returns the certificate.

    Raises :class:`CertificateError`.
    """
    where = f"the operator at {urlsplit(url).netloc}"
    try:
        context = client_only(authorities)
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=_TIMEOUT) as session,
            session.post(
                url + PATH, data=request, headers=bearer(token_file), ssl=context, allow_redirects=False
            ) as answer,
        ):
            body, status = await read_bounded(answer, _MAX_ANSWER), answer.status
    except TimeoutError:
        raise CertificateError(f"{where} does not answer in time") from None
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        raise CertificateError(f"{where} cannot be reached: {error}") from error
    if status != 200:
        detail = error_detail(body)
        text = detail.message if detail is not None else body[:200].decode(errors="replace")
        raise CertificateError(f"{where} refuses to sign a certificate ({status}): {text}")
    return body
