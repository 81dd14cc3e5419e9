"""Reads origins over HTTP: :class:`pantala_supernode.origin.source.SourceReader` with aiohttp."""

import asyncio
import email.utils
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin import freshness, refusal
from pantala_supernode.origin.egress import EgressPolicy, open_session
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.tasks.copy import FileSource

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_NOT_MODIFIED = 304
_CONDITIONS = ("Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since")
"""Headers that a task cannot set. A task is a whole file, and the CDN itself revalidates it."""
_READ_SIZE = 256 * 1024
_ENOUGH = 32 * 1024
"""Bytes in one read that justify waking up."""
_GATHER = 0.004
"""Seconds for which the kernel collects bytes after a smaller read. A piece is much larger than a packet."""
_SURPLUS_WAIT = 0.01
"""How many seconds to wait for bytes after the announced end. Bytes on their way arrive within it."""
_FRESH = 2.0
"""Two contents may share a Last-Modified that is younger than this, in seconds (RFC 9110, 8.8.2.2)."""
_CODINGS = frozenset({"br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


@dataclass(frozen=True)
class OriginTimeouts:
    """Time limits for an origin, in seconds."""

    connect: float = 10.0
    """Seconds to resolve the name and to connect."""
    silence: float = 30.0
    """Seconds without a byte, also before the first one."""
    window: float = 60.0
    """Seconds of a window in which the speed is measured."""
    minimum: int = 64 * 1024
    """Bytes that the origin must send in each window. At about 1 KiB/s, a file would occupy a place for days."""


class HTTPReader:
    """Reads http: and https: origins, without cookies and proxies, and only where ``egress`` allows."""

    def __init__(
        self,
        *,
        egress: EgressPolicy | None = None,
        timeouts: OriginTimeouts | None = None,
        tls: ssl.SSLContext | None = None,
        resolver: aiohttp.abc.AbstractResolver | None = None,
    ) -> None:
        self._egress = egress or EgressPolicy()
        self._timeouts = timeouts or OriginTimeouts()
        self._session = open_session(
            self._egress,
            aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect, sock_read=self._timeouts.silence),
            resolver=resolver,
            read_bufsize=_READ_SIZE,
            ssl=tls or True,
            limit=0,  # the CDN bounds how many origins are read at once
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        shown = RedactedURL(source.url)
        try:
            response = await self._get(_parse(source.url), source.headers, resume)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise refusal.from_exception(error, shown) from error
        chunks = self._chunks(response, shown)
        try:
            yield self._answer(response, shown, resume, chunks)
        finally:
            await chunks.aclose()
            response.close()

    async def _get(self, url: URL, headers: Mapping[str, str], resume: Resume | None) -> aiohttp.ClientResponse:
        first = url
        for _ in range(_MAX_REDIRECTS + 1):
            self._egress.check_literal(url.host or "")
            own = headers if url.origin() == first.origin() else {}  # secrets are for the first host only
            response = await self._session.get(url, headers=_headers(own, resume), allow_redirects=False)
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                return response
            response.close()
            url = _follow(url, response.headers["Location"])
        raise errors.SourceUnusableError(
            f"{RedactedURL(str(first))} redirects more than {_MAX_REDIRECTS} times. Correct the origin's redirects."
        )

    def _answer(
        self, response: aiohttp.ClientResponse, shown: RedactedURL, resume: Resume | None, chunks: AsyncIterator[bytes]
    ) -> Answer:
        unchanged = response.status == _NOT_MODIFIED and resume is not None and resume.complete
        if not unchanged:
            refusal.raise_for_status(response.status, response.headers, shown, resume)
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise errors.SourceUnusableError(
                f"{shown} sent {_shown_coding(coding)} although the request forbids it. "
                "Serve the file without compression."
            )
        offset, length = (0, None) if unchanged else _extent(response, shown, resume)
        etag = response.headers.get("ETag", "").strip()
        return Answer(
            length=length,
            offset=offset,
            etag="" if etag.startswith("W/") else etag,
            last_modified=_last_modified(response.headers),
            framed=response.content_length is not None or _chunked(response),
            chunks=chunks,
            lifetime=freshness.lifetime(response.headers),
            unchanged=unchanged,
        )

    async def _chunks(self, response: aiohttp.ClientResponse, shown: RedactedURL) -> AsyncGenerator[bytes, None]:
        protocol = response.connection.protocol if response.connection is not None else None
        waited, received = 0.0, 0
        while True:
            begun = time.monotonic()
            try:
                chunk = await response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                raise refusal.from_exception(error, shown) from error
            if not chunk:
                break
            waited, received = waited + time.monotonic() - begun, received + len(chunk)
            if waited >= self._timeouts.window:
                if received < self._timeouts.minimum:
                    raise errors.SourceTimeoutError.with_action(f"{shown} sent only {received} bytes in {waited:.0f} s")
                waited, received = 0.0, 0
            yield chunk
            if len(chunk) < _ENOUGH:
                await _gather(response)
        if response.content_length is not None and protocol is not None:
            if not isinstance(protocol.exception(), HttpProcessingError):
                await asyncio.sleep(_SURPLUS_WAIT)
            if isinstance(protocol.exception(), HttpProcessingError):
                raise errors.LengthMismatchError.with_action(
                    f"{shown} sent more than the {response.content_length} bytes that it announced"
                )


async def _gather(response: aiohttp.ClientResponse) -> None:
    """Let bytes collect for a moment: on a slow connection, waking up for each packet is the main cost."""
    transport = response.connection.transport if response.connection is not None else None
    if not isinstance(transport, asyncio.ReadTransport) or not transport.is_reading():
        return
    transport.pause_reading()
    try:
        await asyncio.sleep(_GATHER)
    finally:
        transport.resume_reading()


def _shown_coding(coding: str) -> str:
    """Show a coding only if it is a known one: an origin could reflect a credential."""
    return f"Content-Encoding {coding}" if coding in _CODINGS else "an unknown Content-Encoding"


def _parse(text: str) -> URL:
    try:
        url = _read(text)
    except ValueError as error:
        raise errors.SourceURLError(f"{RedactedURL(text)} is not a valid URL. Correct spec.source.url.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise errors.SourceURLError(f"{RedactedURL(text)} is not an http: or https: URL. Correct spec.source.url.")
    if url.user is not None or url.password is not None:
        raise errors.SourceURLError(
            f"{RedactedURL(text)} contains credentials. Put them into the Secret of spec.headersFrom."
        )
    return url.with_fragment(None)


def _read(text: str) -> URL:
    url = URL(text, encoded=True)
    _ = url.port  # raises for a port above 65535
    return url


def _follow(url: URL, location: str) -> URL:
    shown = RedactedURL(str(url))
    try:
        target = url.join(_read(location))
    except ValueError as error:
        raise errors.SourceUnusableError(f"{shown} redirects to an invalid URL. Correct the origin.") from error
    if target.scheme not in ("http", "https") or not target.host:
        raise errors.SourceDeniedError(f"{shown} redirects to a {target.scheme[:20]!r} URL. Correct the origin.")
    if url.scheme == "https" and target.scheme == "http":
        raise errors.SourceDeniedError(
            f"{shown} redirects from https: to http:, which is forbidden. Correct the origin."
        )
    return target.with_fragment(None)


def _headers(own: Mapping[str, str], resume: Resume | None) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict(own)
    for name in _CONDITIONS:
        headers.popall(name, None)
    headers["Accept-Encoding"] = "identity"
    if resume is not None and resume.complete:
        if resume.validator:
            headers["If-None-Match" if resume.validator.startswith('"') else "If-Modified-Since"] = resume.validator
    elif resume is not None:
        headers["Range"] = f"bytes={resume.offset}-{'' if resume.end is None else resume.end - 1}"
        if resume.validator:
            headers["If-Range"] = resume.validator
    return headers


def _extent(response: aiohttp.ClientResponse, shown: RedactedURL, resume: Resume | None) -> tuple[int, int | None]:
    """The byte at which the body starts, and the length of the whole file."""
    if response.status == 200:
        return 0, None if _chunked(response) else response.content_length
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if response.status != 206 or match is None or resume is None:
        raise errors.SourceProtocolError.with_action(f"{shown} answered {response.status} without the requested range")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    body = None if _chunked(response) else response.content_length
    right_end = total is None or last < total
    if body not in (None, last - first + 1):
        raise errors.LengthMismatchError.with_action(f"{shown} announced {body} bytes, but the range {match[0]!r}")
    if first != resume.offset or last < first or not right_end:
        raise errors.SourceProtocolError.with_action(
            f"{shown} answered {match[0]!r} to a request for the bytes from {resume.offset}"
        )
    return first, total


def _chunked(response: aiohttp.ClientResponse) -> bool:
    return "chunked" in response.headers.get("Transfer-Encoding", "").lower()


def _last_modified(headers: Mapping[str, str]) -> str:
    text = headers.get("Last-Modified", "").strip()
    try:
        modified = email.utils.parsedate_to_datetime(text)
        answered = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return text if (answered - modified).total_seconds() >= _FRESH else ""
    except (ValueError, TypeError):
        return ""
