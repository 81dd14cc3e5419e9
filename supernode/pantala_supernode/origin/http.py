"""Reads origins over HTTP: the adapter of :class:`pantala_supernode.origin.source.SourceReader`."""

import email.utils
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from multidict import CIMultiDict

from pantala_protocol.geometry import MAX_LENGTH
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin import freshness, refusal
from pantala_supernode.origin.body import Body
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.origin.stream import Throttle, streamed
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.request import Head, Request
from pantala_supernode.tasks.copy import FileSource

_NOT_MODIFIED = 304
_CONDITIONS = ("Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since")
"""Headers that a task cannot set, because a task is a whole file, and the CDN itself revalidates it."""
_FRESH = 2.0
"""Seconds. Two contents may share a Last-Modified that is less than this old in the answer (RFC 9110, 8.8.2.2)."""
_CODINGS = {
    "br": (".br",),
    "compress": (".z",),
    "deflate": (),
    "gzip": (".gz", ".tgz"),
    "x-compress": (".z",),
    "x-gzip": (".gz", ".tgz"),
    "zstd": (".zst", ".zstd"),
}
"""The compressions that Content-Encoding can name, each with the name endings of files with this compression."""
_SECRET = 8
"""The fewest characters of a word that counts as a secret. Shorter words occur in validators by chance."""
_LONGEST_VALIDATOR = 2048
"""The most characters of a validator. A longer one is not stored, and replicas would not accept a report with it."""
_LENGTH = re.compile(r"[0-9]{1,18}")
"""Matches the length of a file. A longer number is not valid, and libcurl ignores it too."""
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")

SourceThrottle = Callable[[FileSource], Throttle]
"""Returns the throttle for the bytes of one file."""


class HTTPReader:
    """Reads http and https origins through the outbound client.

    ``ca`` is a file with an additional certificate authority. ``throttle`` returns what limits the rate of a file.
    """

    def __init__(self, client: OutboundClient, ca: Path | None = None, throttle: SourceThrottle | None = None) -> None:
        self._client = client
        self._ca = ca
        self._throttle = throttle

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        """See :meth:`pantala_supernode.origin.source.SourceReader.open`."""
        shown = RedactedURL(source.url)
        own = CIMultiDict(source.headers)
        for name in _CONDITIONS:
            own.popall(name, None)
        request = Request(source.url, _conditions(resume), own, ca=self._ca)
        throttle = None if self._throttle is None else self._throttle(source)
        async with streamed(self._client, request, throttle, lambda error: refusal.from_fault(error, shown)) as (
            head,
            body,
        ):
            yield _answer(head, source, shown, resume, body)


def _conditions(resume: Resume | None) -> dict[str, str]:
    if resume is None:
        return {}
    if resume.complete:
        name = "If-None-Match" if resume.validator.startswith('"') else "If-Modified-Since"
        return {name: resume.validator} if resume.validator else {}
    headers = {"Range": f"bytes={resume.offset}-{'' if resume.end is None else resume.end - 1}"}
    return headers | {"If-Range": resume.validator} if resume.validator else headers


def _answer(head: Head, source: FileSource, shown: RedactedURL, resume: Resume | None, body: Body) -> Answer:
    """Read the head of an answer. Raises a :class:`SourceError`."""
    fields = head.fields
    unchanged = head.status == _NOT_MODIFIED and resume is not None and resume.complete
    if not unchanged:
        refusal.raise_for_status(head.status, fields, shown, resume)
        _check_coding(fields, source, shown)
    offset, length, end = (0, None, None) if unchanged else _extent(head, shown, resume)
    if length is not None and length > MAX_LENGTH:
        raise errors.SourceUnusableError.with_action(f"{shown} serves {length} bytes, more than {MAX_LENGTH}")
    etag, last_modified = fields.get("ETag", "").strip(), _last_modified(fields)
    if _echoes(source, etag + last_modified):
        etag = last_modified = ""
    etag, last_modified = (each if len(each) <= _LONGEST_VALIDATOR else "" for each in (etag, last_modified))
    return Answer(
        length=length,
        offset=offset,
        etag="" if etag.startswith("W/") else etag,
        last_modified=last_modified,
        framed=_length(fields) is not None or _chunked(fields),
        body=body,
        lifetime=_lifetime(fields),
        unchanged=unchanged,
        end=end,
        ranges=head.status == 206 or "bytes" in fields.get("Accept-Ranges", "").lower(),
    )


def _echoes(source: FileSource, validators: str) -> bool:
    """True if a validator contains a secret of the request. Validators are stored on the volume. Secrets must not be.

    The copy then counts as a copy without validators.
    """
    return any(
        word in validators for value in source.headers.values() for word in value.split() if len(word) >= _SECRET
    )


def _check_coding(fields: CIMultiDict[str], source: FileSource, shown: RedactedURL) -> None:
    """Raise :class:`SourceUnusableError` if the server seems to have compressed the file for this answer.

    Three cases are accepted: the task has a digest, which shows if the bytes are right; the coding is not a known
    compression; the file's name says that the file itself is stored compressed.
    """
    named = (coding.strip() for value in fields.getall("Content-Encoding", []) for coding in value.lower().split(","))
    coding = next((each for each in named if each in _CODINGS), None)
    if source.digest is not None or coding is None:
        return
    path = source.url.partition("?")[0].partition("#")[0].lower()
    if not path.endswith(_CODINGS[coding]):
        raise errors.SourceUnusableError.with_action(
            f"{shown} sent Content-Encoding {coding} although the request forbids it, and the task has no digest"
        )


def _extent(head: Head, shown: RedactedURL, resume: Resume | None) -> tuple[int, int | None, int | None]:
    """The byte at which the body starts, the length of the whole file, and the byte at which the body ends."""
    body = None if _chunked(head.fields) else _length(head.fields)
    if head.status == 200:
        return 0, body, body
    match = _CONTENT_RANGE.fullmatch(head.fields.get("Content-Range", "").strip())
    if head.status != 206 or match is None:
        raise errors.SourceRangeError.with_action(f"{shown} answered {head.status} without the requested range")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if body not in (None, last - first + 1):
        raise errors.LengthMismatchError.with_action(f"{shown} announced {body} bytes for {match[0]!r}")
    if resume is None and (first != 0 or total is None or last + 1 != total):
        raise errors.SourceProtocolError.with_action(f"{shown} answered {match[0]!r} to a request for the whole file")
    if first != (resume.offset if resume is not None else 0) or last < first or not (total is None or last < total):
        raise errors.SourceRangeError.with_action(f"{shown} answered {match[0]!r} to a request for other bytes")
    return first, total, last + 1


def _length(fields: Mapping[str, str]) -> int | None:
    text = fields.get("Content-Length", "")
    return int(text) if _LENGTH.fullmatch(text) else None


def _chunked(fields: Mapping[str, str]) -> bool:
    return "chunked" in fields.get("Transfer-Encoding", "").lower()


def _lifetime(fields: CIMultiDict[str]) -> float | None:
    """See :func:`freshness.lifetime`. The directives of all Cache-Control fields count together (RFC 9110, 5.3)."""
    joined = CIMultiDict(fields)
    joined["Cache-Control"] = ", ".join(fields.getall("Cache-Control", []))
    return freshness.lifetime(joined)


def _last_modified(fields: Mapping[str, str]) -> str:
    text = fields.get("Last-Modified", "").strip()
    try:
        modified = email.utils.parsedate_to_datetime(text)
        answered = email.utils.parsedate_to_datetime(fields.get("Date", ""))
        return text if (answered - modified).total_seconds() >= _FRESH else ""
    except (ValueError, TypeError, OverflowError):
        return ""
