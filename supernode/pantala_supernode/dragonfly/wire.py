"""The protocol of Dragonfly's clients: codes, envelopes and requests. Pure.

Every answer is HTTP 200 with an envelope ``{"code", "msg", "data"}``. Clients write keys in upper or lower case, and
send some numbers as text.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NewType

import msgspec

from pantala_protocol import task_id
from pantala_protocol.rules import headers as values
from pantala_protocol.task_id import TaskID
from pantala_supernode.dragonfly.url import encoded

Envelope = NewType("Envelope", dict[str, Any])


class PieceEntry(msgspec.Struct, frozen=True, rename="camel"):
    """A piece in the answer to a pull, with its provider."""

    range: str
    piece_num: int
    piece_size: int
    piece_md5: str
    cid: str
    """The ID of the provider."""
    peer_ip: str
    peer_port: int
    path: str
    down_link: int
    """The bandwidth in KiB per second that the client may use."""


_PATH = re.compile(r"/[!-~]{1,511}")
_CID = re.compile(r"[A-Za-z0-9._:@~-]{1,256}")
"""Matches a client ID. dfget does not encode the ID in queries, so other characters would not survive."""
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_MOST_HEADERS = 16 * 1024
"""The most characters of all headers. Few servers accept more, and thousands of preheats keep theirs for hours."""

_HARMLESS = frozenset({"cache-control", "pragma", "user-agent"})
"""Headers that do not change the content. Requests that differ in any other header get different tasks."""
_ANYTHING = ("accept", "*/*")
"""The header that many programs send if their user asks for no format. Any other value may choose another content."""

_HOP_NAMES = (
    "accept-encoding connection content-length host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since keep-alive proxy-connection te trailer transfer-encoding upgrade"
)
_HOP = frozenset(_HOP_NAMES.split(" "))
"""Headers that concern only one connection or request. The supernode does not send them on to the origin."""


class Code(IntEnum):
    """The codes in answers. A client decides by the code what to do next."""

    METRIC_TAKEN = 1
    OK = 200
    SYSTEM_ERROR = 500
    BAD_REQUEST = 501
    NOT_FOUND = 502
    FINISHED = 600
    CONTINUE = 601
    WAIT = 602
    CDN_FAILED = 604
    UNREACHABLE = 607
    NEEDS_AUTH = 608
    ASK_AGAIN = 609
    PIECE_TAKEN = 611
    DOWN_TAKEN = 612


class PieceStatus(StrEnum):
    """The state of a client's download."""

    STARTED = "STARTED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"


class PieceResult(StrEnum):
    """The result of one piece, or in the last report, of the whole download."""

    FAILED = "FAILED"
    SUCCESS = "SUCCESS"
    INVALID = "INVALID"
    SEMISUC = "SEMISUC"
    """The client has the piece, but cannot serve it yet."""


_STATUSES = {700: PieceStatus.STARTED, 701: PieceStatus.RUNNING, 702: PieceStatus.FINISHED}
_RESULTS = {500: PieceResult.FAILED, 501: PieceResult.SUCCESS, 503: PieceResult.SEMISUC}


class MalformedRequestError(ValueError):
    """A client's request is malformed. The message says what is wrong."""


def envelope(code: Code, message: str = "", data: object = None) -> Envelope:
    answer: dict[str, Any] = {"code": int(code)}
    if message:
        answer["msg"] = message
    if data is not None:
        answer["data"] = data
    return Envelope(answer)


@dataclass(frozen=True, slots=True)
class Registration:
    """``POST /peer/registry``: one run of dfget wants one file."""

    cid: str
    url: str
    """The URL that identifies the content: without the query parameters that the client ignores."""
    raw_url: str
    """The URL as the user wrote it, which the supernode sends to the origin."""
    ip: str
    port: int
    path: str
    md5: str
    identifier: str
    headers: Mapping[str, str] = field(repr=False)
    """By name, in the user's spelling."""
    dfdaemon: bool

    @property
    def task_id(self) -> TaskID:
        """The ID of the task.

        Clients do not authenticate. So a client shares a task with Task resources only if it requests the whole URL
        without a header. A client may be wrong to ignore query parameters. So it shares its task only with clients that
        ignore the same parameters.
        """
        ignored = self._ignored()
        scope = f"dragonfly:{len(ignored)}:{ignored}{self.identifier}"
        exact = not (ignored or self.identifier or self.headers or self.url != self.raw_url)
        return task_id.compute(
            self.url,
            digest=f"md5:{self.md5}" if self.md5 else "",
            scope="" if exact else scope,
            credentials=self._credentials(),
        )

    def _ignored(self) -> str:
        """The names of the query parameters that :attr:`url` lacks."""
        sent, named = (Counter(each.partition("?")[2].split("&")) for each in (self.raw_url, self.url))
        return "&".join(sorted({part.partition("=")[0] for part in sent - named}))

    def _credentials(self) -> str:
        named = ((name.lower(), text) for name, text in self.headers.items())
        choosing = sorted(field for field in named if field[0] not in _HARMLESS and field != _ANYTHING)
        if not choosing:
            return ""
        return task_id.compute("", credentials="\n".join(f"{name}:{text}" for name, text in choosing))


@dataclass(frozen=True, slots=True)
class PullRequest:
    """``GET /peer/task``: a client reports the result of a piece and requests more pieces."""

    cid: str
    task_id: str
    status: PieceStatus = PieceStatus.STARTED
    result: PieceResult = PieceResult.INVALID
    range: str = ""
    provider: str = ""


def read_registration(body: bytes) -> Registration:
    """Read the body of dfget's registration. Raises :class:`MalformedRequestError`.

    dfget always sends its address, its port (0 if it does not serve) and the path at which it would serve. It compares
    an md5 as text. With an md5 in upper case, it would download the whole file, delete it and report SUCCESS.
    """
    try:
        values = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError("the body is not valid JSON") from error
    if not isinstance(values, dict):
        raise MalformedRequestError("the body is not a JSON object")
    fields = _Fields(values)
    path = fields.text("path")
    for valid, problem in (
        (_is_address(fields.text("ip")), "ip must be an IPv4 or IPv6 address"),
        (fields.text("port"), "port must be 0 to 65535"),
        (path.startswith("/") and not _CONTROL_CHARACTER.search(path), "path must begin with / and be one line"),
        (
            fields.text("md5") == fields.text("md5").lower(),
            "md5 must be in lower case, because dfget compares it as text",
        ),
    ):
        if not valid:
            raise MalformedRequestError(problem)
    return check_registration(values)


def check_registration(values: Mapping[str, Any]) -> Registration:
    """Check the fields that each registration has. Raises :class:`MalformedRequestError`."""
    fields = _Fields(values)
    raw_url, cid = fields.url("rawurl"), fields.text("cid")
    url = fields.url("taskurl") if fields.text("taskurl") else raw_url
    md5, port, path = fields.text("md5").lower(), fields.number("port"), fields.text("path")
    for valid, problem in (
        (_is_filtered(url, raw_url), "taskUrl must be rawUrl, except for query parameters that are left out"),
        (_CID.fullmatch(cid), "cid must be 1 to 256 letters, digits and . _ : @ ~ -"),
        (not md5 or _MD5.fullmatch(md5), "md5 must be 32 hex digits"),
        (0 <= port <= 65535, "port must be 0 to 65535"),
    ):
        if not valid:
            raise MalformedRequestError(problem)
    serves, dfdaemon = _PATH.fullmatch(path) is not None, fields.flag("dfdaemon")
    return Registration(
        cid=cid,
        url=url,
        raw_url=raw_url,
        ip=fields.text("ip"),
        port=port if serves else 0,
        path=path if serves else "",
        md5=md5,
        identifier="" if md5 else fields.text("identifier")[:1024],
        headers=_headers(fields.get("headers") or [], whole=dfdaemon),
        dfdaemon=dfdaemon,
    )


def read_pull(query: Mapping[str, str]) -> PullRequest:
    """Read the query of a pull. Raises :class:`MalformedRequestError`."""
    fields = _Fields(query)
    status = _STATUSES.get(fields.number("status"))
    result = _RESULTS.get(fields.number("result"), PieceResult.INVALID)
    if status is None:
        raise MalformedRequestError("status must be 700, 701 or 702")
    if status is PieceStatus.RUNNING and result is PieceResult.INVALID:
        raise MalformedRequestError("result must be 500, 501 or 503 if status is 700")
    return PullRequest(
        fields.text("srccid"), fields.text("taskid"), status, result, fields.text("range"), fields.text("dstcid")
    )


class _Fields:
    """The values of a request, by key in lower case."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name.lower(): value for name, value in values.items()}

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def text(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise MalformedRequestError(f"{name} must be text")
        return str(value)

    def url(self, name: str) -> str:
        try:
            return encoded(self.text(name))
        except ValueError as error:
            raise MalformedRequestError(f"{name} is not a usable URL: {error}") from None

    def number(self, name: str) -> int:
        text = self.text(name) or "0"
        if len(text) > 18 or re.fullmatch(r"-?[0-9]+", text, re.ASCII) is None:
            raise MalformedRequestError(f"{name} must be a whole number")
        return int(text)

    def flag(self, name: str) -> bool:
        value = self.get(name)
        return value is True or (isinstance(value, str) and value.lower() in {"true", "1"})


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text)) and "%" not in text
    except ValueError:
        return False


def _is_filtered(url: str, raw_url: str) -> bool:
    """True if ``url`` is ``raw_url``, or differs from it only by missing query parameters."""
    head, _, query = url.partition("?")
    raw_head, _, raw_query = raw_url.partition("?")
    left = iter(raw_query.split("&"))
    return head == raw_head and (not query or all(part in left for part in query.split("&")))


def _headers(lines: object, *, whole: bool) -> dict[str, str]:
    """Read a client's headers. ``whole``: ignore a requested range, because the client can use the whole file."""
    if not isinstance(lines, list):
        raise MalformedRequestError("headers must be a list")
    if sum(len(line) for line in lines if isinstance(line, str)) > _MOST_HEADERS:
        raise MalformedRequestError(f"headers must have at most {_MOST_HEADERS} characters")
    headers: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for line in lines:
        if not isinstance(line, str):
            raise MalformedRequestError("a header must be text")
        name, text = (part.strip() for part in line.partition(":")[::2])
        if not name or not text or name.lower() in _HOP:
            continue
        if name.lower() == "range":
            if whole:
                continue
            raise MalformedRequestError("parts of a file are not distributed; request the whole file")
        if _HEADER_NAME.fullmatch(name) is None or _CONTROL_CHARACTER.search(text):
            raise MalformedRequestError("a header has characters that cannot be sent")
        text, name = values.of_text(text), spelled.setdefault(name.lower(), name)
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    return headers
