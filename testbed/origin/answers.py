"""The answers of an origin: what the script demands of each, what it sends, and its entry in the log."""

import asyncio
import email.utils
import gzip
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

from testbed.origin.bodies import Body, Bytes

_CHUNK = 256 * 1024
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one request is answered. The default has no fault."""

    status: int | None = None
    """Answer only with this status, e.g. 404 or 503."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers of the answer, e.g. ``Retry-After``. They replace headers with the same name."""
    require: Mapping[str, str] = field(default_factory=dict)
    """Headers that a request must have with these values. Otherwise the answer is 401."""
    delay: float = 0.0
    """Seconds before the first byte of the answer."""
    rate: float | None = None
    """Bytes of body per second, for this answer only."""
    chunk: int | None = None
    """The most bytes of body in one write. ``None``: as many as are usual for the rate."""
    stall_after: int | None = None
    """Send this many bytes of body, then stop but keep the connection."""
    reset_after: int | None = None
    """Send this many bytes of body, then a TCP reset."""
    close_after: int | None = None
    """Send this many bytes of body, then close the connection (FIN)."""
    announced: int = 0
    """Added to the true ``Content-Length``. If it is positive, the body is shorter than announced, else longer."""
    framing: Literal["length", "chunked", "close"] = "length"
    """How the body ends: ``Content-Length``, chunks, or only the end of the connection."""
    ranges: bool = True
    """False: ``Range`` is ignored, and the whole body is sent with 200."""
    if_range: bool = True
    """False: ``If-Range`` is ignored, so a range of another content is sent."""
    shift: int = 0
    """A range starts this many bytes later than requested, and ``Content-Range`` says so."""
    most: int | None = None
    """A range has at most this many bytes, and ``Content-Range`` says so."""
    conditional: bool = True
    """False: ``If-None-Match`` and ``If-Modified-Since`` are ignored."""
    validators: Literal["all", "etag", "weak", "modified", "none"] = "all"
    """Which of ETag and Last-Modified the answer has. ``weak``: only a weak ETag."""
    gzip: bool = False
    """Send the body with gzip, although the client did not ask for it."""
    replace: Body | None = None
    """The path's new content, from this answer on."""


@dataclass
class Access:
    """One answer in the log. ``sent`` grows while it runs."""

    method: str
    path: str
    range: str
    status: int
    started: float
    ended: float | None = None
    sent: int = 0
    """Bytes of body (without chunk framing) that were handed to the network."""
    first: int = 0
    """The byte of the content at which the body starts."""
    etag: str = ""
    """The opaque tag of the content, also if the answer does not show it."""
    headers: dict[str, str] = field(default_factory=dict)
    """The request's headers, with names in lower case."""
    names: tuple[str, ...] = ()
    """The names of the request's headers in the client's spelling."""


@dataclass
class Resource:
    """The content at a path, and how its requests are answered."""

    body: Body
    script: deque[Behaviour]
    always: Behaviour


class CutError(Exception):
    """The script ends this connection, with a TCP reset if ``reset`` is true."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset


class Pace:
    """The rate that all answers of an origin share."""

    def __init__(self) -> None:
        self.rate: float | None = None
        """Bytes of body per second. ``None``: no limit."""
        self._free_at = 0.0

    async def wait(self, size: int) -> None:
        """Wait until ``size`` more bytes may be sent."""
        if self.rate is None:
            return
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + size / self.rate
        await asyncio.sleep(self._free_at - now)


class Answer:
    """One answer under way."""

    def __init__(
        self,
        pace: Pace,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        access: Access,
        resource: Resource | None,
    ) -> None:
        self._pace = pace
        self._reader = reader
        self._writer = writer
        self._access = access
        self._resource = resource
        script = resource.script if resource else None
        self._how = script.popleft() if script else resource.always if resource else Behaviour(status=404)

    async def send(self) -> bool:
        """Send the answer. Returns True if the connection stays open."""
        how, resource, access = self._how, self._resource, self._access
        await asyncio.sleep(how.delay)
        if access.method not in ("GET", "HEAD"):
            return await self._send_status(HTTPStatus.METHOD_NOT_ALLOWED)
        if any(access.headers.get(name.lower()) != value for name, value in how.require.items()):
            return await self._send_status(HTTPStatus.UNAUTHORIZED)
        if how.status is not None or resource is None:
            return await self._send_status(how.status or HTTPStatus.NOT_FOUND)
        body = resource.body
        if how.replace is not None:
            body = resource.body = how.replace
        if how.gzip:
            body = Bytes(gzip.compress(body.read(0, body.size)))
        return await self._send_body(body)

    async def _send_status(self, status: int) -> bool:
        text = f"{status}\n".encode() if status not in (204, 304) else b""
        await self._send_head(status, {"Content-Length": str(len(text)), "Content-Type": "text/plain"})
        self._writer.write(b"" if self._access.method == "HEAD" else text)
        await self._writer.drain()
        return True

    async def _send_body(self, body: Body) -> bool:
        how, size = self._how, body.size
        headers = _validators(body, how.validators)
        if how.ranges:
            headers["Accept-Ranges"] = "bytes"
        if how.gzip:
            headers["Content-Encoding"] = "gzip"
        request = {name: value for name, value in self._access.headers.items() if how.if_range or name != "if-range"}
        status, first, end = _select(request, headers, size) if how.ranges else (200, 0, size)
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            await self._send_head(status, headers | {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return True
        if status == HTTPStatus.PARTIAL_CONTENT:
            first = min(first + how.shift, end - 1)
            end = min(end, first + how.most) if how.most is not None else end
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        if status == HTTPStatus.OK and how.conditional and _unchanged(self._access.headers, headers):
            await self._send_head(HTTPStatus.NOT_MODIFIED, headers)
            return True
        if how.framing == "length":
            headers["Content-Length"] = str(max(end - first + how.announced, 0))
        elif how.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Connection"] = "close"
        self._access.first, self._access.etag = first, body.etag
        await self._send_head(status, headers)
        if self._access.method == "HEAD":
            return True
        await self._send_bytes(body, first, end)
        return how.framing != "close" and how.announced == 0

    async def _send_head(self, status: int, headers: dict[str, str]) -> None:
        self._access.status = status
        replaced = {name.lower() for name in self._how.headers}
        shown = {name: value for name, value in headers.items() if name.lower() not in replaced} | dict(
            self._how.headers
        )
        lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}", f"Date: {email.utils.formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in shown.items()]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        await self._writer.drain()

    async def _send_bytes(self, body: Body, first: int, end: int) -> None:
        how, offset = self._how, first
        stops = [stop for stop in (how.stall_after, how.reset_after, how.close_after) if stop is not None]
        stop = min([first + min(stops), end]) if stops else end
        while offset < stop:
            size = min(stop - offset, self._chunk())
            data = body.read(offset, size)
            if not data:  # the content is shorter than announced
                raise CutError(reset=False)
            await self._send_chunk(data)
            offset += len(data)
        if stops and stop == first + min(stops):
            await self._stop()
        if how.framing == "chunked":
            self._writer.write(b"0\r\n\r\n")
            await self._writer.drain()

    async def _send_chunk(self, data: bytes) -> None:
        await self._pace.wait(len(data))
        if self._how.rate is not None:
            await asyncio.sleep(len(data) / self._how.rate)
        if self._how.framing == "chunked":
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._writer.write(data)
        await self._writer.drain()
        self._access.sent += len(data) - (data.index(b"\n") + 3 if self._how.framing == "chunked" else 0)

    def _chunk(self) -> int:
        if self._how.chunk is not None:
            return self._how.chunk
        rate = min((rate for rate in (self._pace.rate, self._how.rate) if rate is not None), default=None)
        return _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 20)))

    async def _stop(self) -> None:
        if self._how.stall_after is not None:
            await self._reader.read()  # until the client closes the connection
        raise CutError(reset=self._how.reset_after is not None)


def _validators(body: Body, which: str) -> dict[str, str]:
    headers = {}
    if which in ("all", "etag"):
        headers["ETag"] = f'"{body.etag}"'
    if which == "weak":
        headers["ETag"] = f'W/"{body.etag}"'
    if which in ("all", "modified"):
        headers["Last-Modified"] = email.utils.formatdate(body.modified, usegmt=True)
    return headers


def _select(request: Mapping[str, str], answer: Mapping[str, str], size: int) -> tuple[int, int, int]:
    """The status and the bytes ``[first, end)`` that a request asks for (RFC 9110, 14.2 and 13.1.5)."""
    match = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", request.get("range", ""))
    condition = request.get("if-range")
    strong = not answer.get("ETag", "").startswith("W/")
    same = condition is None or (condition == answer.get("ETag") and strong) or condition == answer.get("Last-Modified")
    if match is None or not (match[1] or match[2]) or not same:
        return HTTPStatus.OK, 0, size
    first = int(match[1]) if match[1] else max(size - int(match[2]), 0)
    end = min(int(match[2]) + 1, size) if match[1] and match[2] else size
    if first >= size or end <= first:
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
    return HTTPStatus.PARTIAL_CONTENT, first, end


def _unchanged(request: Mapping[str, str], answer: Mapping[str, str]) -> bool:
    """True if the request states that the client has this content (RFC 9110, 13.1.2 and 13.1.3)."""
    tags = request.get("if-none-match")
    if tags is not None:
        own = answer.get("ETag", "").removeprefix("W/")
        return bool(own) and own in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    return "Last-Modified" in answer and request.get("if-modified-since") == answer["Last-Modified"]
