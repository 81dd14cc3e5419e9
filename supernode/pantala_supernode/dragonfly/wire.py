"""The words of Dragonfly's clients: codes, envelopes, requests. Pure.

Every answer is HTTP 200 with an envelope ``{"code", "msg", "data"}``. Keys come in any case, numbers also as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NewType

import msgspec

from pantala_protocol import task_id
from pantala_protocol.task_id import TaskID

Envelope = NewType("Envelope", dict[str, Any])

Entry = dict[str, object]
"""One piece of an answer to a pull, and where to get it."""

_PATH = re.compile(r"/[!-~]{1,511}")
_CID = re.compile(r"[!-~]{1,256}")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_URL = re.compile(r"https?://[!-~]{1,8000}", re.IGNORECASE)

_HARMLESS = frozenset({"accept", "accept-charset", "accept-language", "cache-control", "pragma", "user-agent"})
"""Headers that do not decide who may read what; any other one parts the tasks of those who send it."""

_HOP = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers between the client and whom it asked; the supernode's own request has its own."""


class Code(IntEnum):
    """What the clients react to."""

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


class BadWordError(ValueError):
    """The client's request cannot be read; the message says why."""


def envelope(code: Code, message: str = "", data: object = None) -> Envelope:
    """An answer."""
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
    """With the query parameters left out that the client was told to leave out: what names the task."""
    raw_url: str
    """As the user wrote it: what the origin is asked for."""
    ip: str
    port: int
    path: str
    md5: str
    identifier: str
    headers: Mapping[str, str]
    dfdaemon: bool

    @property
    def task_id(self) -> TaskID:
        """A plain URL is the same task as that of a Task resource without headers and digest.

        Who leaves query parameters out says that they do not matter. That is believed among those who say so only.
        """
        filtered = "filtered:" if self.url != self.raw_url else ""
        return task_id.compute(
            self.url,
            digest=f"md5:{self.md5}" if self.md5 else "",
            scope=f"dragonfly:{filtered}{self.identifier}" if filtered or self.identifier else "",
            credentials=self._credentials(),
        )

    def _credentials(self) -> str:
        secret = sorted((name, text) for name, text in self.headers.items() if name not in _HARMLESS)
        if not secret:
            return ""
        return task_id.compute("", credentials="\n".join(f"{name}:{text}" for name, text in secret))


@dataclass(frozen=True, slots=True)
class Pull:
    """``GET /peer/task``: what became of a piece, and the wish for more."""

    cid: str
    task_id: str
    status: int
    result: int
    range: str
    provider: str


START, RUNNING, END = 700, 701, 702
FAILED, SUCCESS, INVALID, SEMI_SUCCESS = 500, 501, 502, 503


def registration(body: bytes) -> Registration:
    """Read a registration. Raises :class:`BadWordError`."""
    fields = _fields(body)
    raw_url, cid = fields.text("rawurl"), fields.text("cid")
    url = fields.text("taskurl") or raw_url
    if _URL.fullmatch(raw_url) is None or _URL.fullmatch(url) is None:
        raise BadWordError("rawUrl and taskUrl must be http or https URLs")
    if not _is_filtered(url, raw_url):
        raise BadWordError("taskUrl must be rawUrl, query parameters left out")
    if _CID.fullmatch(cid) is None:
        raise BadWordError("cid must be 1 to 256 printable characters")
    md5 = fields.text("md5").lower()
    if md5 and _MD5.fullmatch(md5) is None:
        raise BadWordError("md5 must be 32 hex digits")
    port, path = fields.number("port"), fields.text("path")
    if not 0 <= port <= 65535:
        raise BadWordError("port must be 0 to 65535")
    return Registration(
        cid=cid,
        url=url,
        raw_url=raw_url,
        ip=fields.text("ip"),
        port=port if _PATH.fullmatch(path) is not None else 0,
        path=path if _PATH.fullmatch(path) is not None else "",
        md5=md5,
        identifier="" if md5 else fields.text("identifier")[:1024],
        headers=_headers(fields.values.get("headers") or []),
        dfdaemon=fields.flag("dfdaemon"),
    )


def pull(query: Mapping[str, str]) -> Pull:
    """Read a pull. Raises :class:`BadWordError`."""
    fields = _Fields({name.lower(): text for name, text in query.items()})
    status, result = fields.number("status"), fields.number("result")
    if status not in (START, RUNNING, END):
        raise BadWordError("status must be 700, 701 or 702")
    if status == RUNNING and result not in (FAILED, SUCCESS, SEMI_SUCCESS):
        raise BadWordError("result must be 500, 501 or 503 while running")
    return Pull(
        fields.text("srccid"), fields.text("taskid"), status, result, fields.text("range"), fields.text("dstcid")
    )


class _Fields:
    """Values by lower-case key."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise BadWordError(f"{name} must be text")
        return str(value)

    def number(self, name: str) -> int:
        text = self.text(name)
        if len(text) > 18 or re.fullmatch(r"-?[0-9]+", text or "0", re.ASCII) is None:
            raise BadWordError(f"{name} must be a whole number")
        return int(text or "0")

    def flag(self, name: str) -> bool:
        value = self.values.get(name, False)
        return value is True or (isinstance(value, str) and value.lower() in {"true", "1"})


def _fields(body: bytes) -> _Fields:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadWordError("the body is no JSON") from error
    if not isinstance(value, dict):
        raise BadWordError("the body is no JSON object")
    return _Fields({name.lower(): item for name, item in value.items()})


def _is_filtered(url: str, raw_url: str) -> bool:
    """Whether ``url`` is ``raw_url`` but for query parameters left out."""
    head, _, query = url.partition("?")
    raw_head, _, raw_query = raw_url.partition("?")
    left = iter(raw_query.split("&"))
    return head == raw_head and (not query or all(part in left for part in query.split("&")))


def _headers(lines: object) -> dict[str, str]:
    if not isinstance(lines, list):
        raise BadWordError("headers must be a list")
    headers: dict[str, str] = {}
    for line in lines:
        if not isinstance(line, str):
            raise BadWordError("a header must be text")
        name, text = (part.strip() for part in line.partition(":")[::2])
        name = name.lower()
        if not name or not text or name in _HOP:
            continue
        if name == "range":
            raise BadWordError("a part of a file is not distributed; ask for the whole")
        if re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]+", name) is None or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
            raise BadWordError("a header cannot be sent as it is")
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    return headers
