"""Whether an origin's answer is of the content that is there already. Pure."""

from __future__ import annotations

from pantala_pieces.file import Meta
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin.source import Answer, Resume


def same(answer: Answer, meta: Meta) -> bool:
    """Whether the answer is of the content that ``meta`` tells of, as far as the origin can say."""
    if answer.unchanged:
        return True
    if answer.length is not None and meta.length is not None and answer.length != meta.length:
        return False
    if meta.etag:
        return answer.etag == meta.etag
    if meta.last_modified:
        return answer.last_modified == meta.last_modified
    return answer.offset > 0 and answer.length == meta.length  # the whole's digest will tell


def check_other(answer: Answer, resume: Resume, meta: Meta, shown: RedactedURL, *, may_restart: bool) -> None:
    """An answer to ``resume`` is not of the same content: raise unless it gives the other one from its start."""
    if answer.offset > 0 and answer.validator and answer.validator == resume.validator:
        raise errors.LengthMismatchError(
            f"{shown} announced {meta.length} bytes before and {answer.length} bytes now, of the same content. "
            f"{errors.LengthMismatchError.reason.action}"
        )
    if answer.offset > 0 or not may_restart:
        raise errors.SourceChangedError(f"{shown} has a new content. {errors.SourceChangedError.reason.action}")


def check_end_is_seen(answer: Answer, shown: RedactedURL, *, digest_known: bool) -> None:
    """Raise unless something tells a whole body from a cut one."""
    if answer.length is None and not answer.framed and not digest_known:
        raise errors.SourceUnusableError(
            f"{shown} tells neither how long its body is nor where it ends, so a cut would not be seen. "
            "Give spec.digest in a new Task, or have the origin send Content-Length."
        )
