"""Reads origins over HTTP: the adapter of :class:`pantala_supernode.origin.source.SourceReader`."""

import email.utils
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
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
_NO_CONTENT = 204
_UNUSUAL = frozenset({201, 203, 206})
_GZIP = (".bgz", ".crate", ".gz", ".svgz", ".taz", ".tgz", ".tpz")
_CODINGS = {
    "br": (".br",),
    "compress": (".z",),
    "deflate": (),
    "gzip": _GZIP,
    "x-compress": (".z",),
    "x-gzip": _GZIP,
    "zstd": (".tzst", ".zst", ".zstd"),
}
"""The compressions that Content-Encoding can name, each with the name endings of files with this compression."""
_PACKED = re.compile(r"application/(x-)?(gzip|tgz|tar-gz|compressed-tar|gtar-compressed)")
"""Media types of files that are stored with gzip."""
_FILENAME = re.compile(r"filename\s*=\s*(\"[^\"]*\"|[^\s;]+)", re.IGNORECASE)
_SECRET = 8
"""The fewest characters of a word that counts as a secret. Shorter words occur in validators by chance."""
_LONGEST_VALIDATOR = 2048
"""The most characters of a validator. A longer one is not stored, and replicas would not accept a report with it."""
_CONTENT_RANGE = re.compile(r"(?:bytes[ =:]+)?([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
"""As in curl, other spellings than ``bytes 0-9/10`` count too. Upper case is valid (RFC 9110, 14.1)."""

SourceThrottle = Callable[[FileSource], Throttle]
"""Returns the throttle for the bytes of one file."""


class HTTPReader:
    """Reads http and https origins through the outbound client. ``throttle`` limits the rate of a file."""

    def __init__(self, client: OutboundClient, throttle: SourceThrottle | None = None) -> None:
        self._client = client
        self._throttle = throttle

    @asynccontextmanager
    async def open(
        self, source: FileSource, resume: Resume | None = None, *, ca: Path | None = None
    ) -> AsyncIterator[Answer]:
        """See :meth:`SourceReader.open`. ``ca``: a file with an additional certificate authority."""
        shown = RedactedURL(source.url)
        own = CIMultiDict(source.headers)
        for name in _CONDITIONS:
            own.popall(name, None)
        request = Request(source.url, _conditions(resume), own, ca=ca)
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
        name = "If-Modified-Since" if _is_date(resume.validator) else "If-None-Match"
        return {name: resume.validator} if resume.validator else {}
    headers = {"Range": f"bytes={resume.offset}-{'' if resume.end is None else resume.end - 1}"}
    return headers | {"If-Range": resume.validator} if resume.validator else headers


def _answer(head: Head, source: FileSource, shown: RedactedURL, resume: Resume | None, body: Body) -> Answer:
    """Read the head of an answer. Raises a :class:`SourceError`."""
    fields = head.fields
    unchanged = head.status == _NOT_MODIFIED and resume is not None and resume.complete
    if not unchanged:
        if not _is_whole(head, source, resume):
            refusal.raise_for_status(head.status, fields, shown, resume)
        _check_coding(head, source, shown)
    offset, length, end = (0, None, None) if unchanged else _extent(head, source, shown, resume)
    if length is not None and length > MAX_LENGTH:
        raise errors.SourceUnusableError.with_action(f"{shown} serves {length} bytes, more than {MAX_LENGTH}")
    etag, last_modified = fields.get("ETag", "").strip(), _last_modified(fields) or _confirmed_date(head, resume)
    validators = etag + last_modified
    if len(validators) > _LONGEST_VALIDATOR or _echoes(source, validators):
        etag = last_modified = ""
    return Answer(
        length=length,
        offset=offset,
        etag=etag,
        last_modified=last_modified,
        framed=head.length is not None or head.chunked,
        body=body,
        lifetime=freshness.lifetime(fields),
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


def _is_whole(head: Head, source: FileSource, resume: Resume | None) -> bool:
    """True if an answer with another status than 200 has the whole file, as the request demands.

    204 is an empty file. After 201, 203 or an incomplete 206, only the task's digest can show if the bytes are right.
    """
    if resume is not None and not resume.complete:
        return False
    if head.status == _NO_CONTENT:
        return True
    if not source.digest or head.status not in _UNUSUAL:
        return False
    match = _CONTENT_RANGE.fullmatch(head.fields.get("Content-Range", "").strip())
    return match is None or (int(match[1]) == 0 and match[3] == "*")


def _check_coding(head: Head, source: FileSource, shown: RedactedURL) -> None:
    """Raise :class:`SourceUnusableError` if the server seems to have compressed the file for this answer.

    Three cases are accepted. The task has a digest, which shows if the bytes are right. The coding is not a known
    compression. Or the file's name or media type says that the file itself is stored compressed.
    """
    labels = head.fields.getall("Content-Encoding", [])
    named = (coding.strip() for value in labels for coding in value.lower().split(","))
    coding = next((each for each in named if each in _CODINGS), None)
    if source.digest is not None or coding is None:
        return
    if _CODINGS[coding] is _GZIP and _PACKED.match(head.fields.get("Content-Type", "").strip().lower()):
        return
    if not any(name.lower().endswith(_CODINGS[coding]) for name in _names(head, source)):
        raise errors.SourceUnusableError.with_action(
            f"{shown} sent Content-Encoding {coding} although the request forbids it, and the task has no digest"
        )


def _names(head: Head, source: FileSource) -> Iterator[str]:
    """The names that the file has: in the task's URL, in the URL after redirects, and in the answer."""
    for url in (source.url, head.url):
        yield url.partition("?")[0].partition("#")[0]
    for match in _FILENAME.finditer(head.fields.get("Content-Disposition", "")):
        yield match[1].strip('"')


def _extent(
    head: Head, source: FileSource, shown: RedactedURL, resume: Resume | None
) -> tuple[int, int | None, int | None]:
    """The byte at which the body starts, the length of the whole file, and the byte at which the body ends."""
    body = head.length
    if head.status == _NO_CONTENT:
        return 0, 0, 0
    if head.status == 200 or _is_whole(head, source, resume):
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


def _is_date(validator: str) -> bool:
    """True for a Last-Modified. An ETag has no quotes at some servers, for example Azure Blob Storage before 2011."""
    try:
        email.utils.parsedate_to_datetime(validator)
    except (ValueError, TypeError, OverflowError):
        return False
    return not validator.startswith('"')


def _last_modified(fields: Mapping[str, str]) -> str:
    text = fields.get("Last-Modified", "").strip()
    try:
        modified = email.utils.parsedate_to_datetime(text)
        answered = email.utils.parsedate_to_datetime(fields.get("Date", ""))
        return text if (answered - modified).total_seconds() >= _FRESH else ""
    except (ValueError, TypeError, OverflowError):
        return ""


def _confirmed_date(head: Head, resume: Resume | None) -> str:
    """The date of a conditional request for a range, if the answer has a range but no Last-Modified. Else empty.

    The range means that the date still holds. So the server need not repeat the date (RFC 9110, 15.3.7).
    """
    if resume is None or head.status != 206 or head.fields.get("Last-Modified", "").strip():
        return ""
    return resume.validator if _is_date(resume.validator) else ""
