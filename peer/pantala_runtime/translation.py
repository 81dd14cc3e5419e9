"""What a container runtime says when a pull fails, as one of our errors. Pure: it is all in a code and a text."""

from __future__ import annotations

import re

from pantala_protocol.redaction import RedactedURL
from pantala_runtime import errors
from pantala_runtime.errors import RequestError

_MAX_SAID = 400
_URL = re.compile(r"[a-z]+://[^\s\"'\\]+")
_PREAMBLE = re.compile(
    r"rpc error: code = \w+ desc = |failed to pull and unpack image \"[^\"]*\": |"
    r"failed to resolve (image|reference \"[^\"]*\"): "
)
"""What only says that a pull failed, and of which image."""

_UNREACHABLE = (
    r"dial tcp|no such host|server misbehaving|connection refused|connection reset|broken pipe|no route to host|"
    r"i/o timeout|\bEOF\b|TLS handshake|x509:|server gave HTTP response to HTTPS client|response headers|"
    r"(?<!\d)5\d\d [A-Z][a-z]|429 Too Many Requests"
)

_TEXTS: tuple[tuple[str, type[RequestError], str], ...] = (
    (r"no space left on device|disk quota exceeded", errors.NoSpaceError, "free space on the node"),
    (
        r"unexpected commit (digest|size)|digest mismatch|failed size validation|failed digest",
        errors.DigestMismatchError,
        "what the registry or the mirror sent is not the image; look at their logs",
    ),
    (
        r"failed to parse image reference|invalid reference format|could not parse reference|invalid reference",
        errors.InvalidImageError,
        "correct the image's name",
    ),
    (
        r"401 Unauthorized|403 Forbidden|insufficient_scope|pull access denied|no basic auth credentials",
        errors.UnauthorizedError,
        "give credentials that may pull it",
    ),
    (r"404 Not Found|manifest unknown|name unknown", errors.NotFoundError, "check its name and its tag or digest"),
    (_UNREACHABLE, errors.UnreachableError, "check the registry and the node's way to it"),
    (r"authorization failed|failed to authorize", errors.UnauthorizedError, "give credentials that may pull it"),
    (r"context (canceled|deadline exceeded)", errors.TimedOutError, "check how fast the registry sends"),
)
"""The first that matches decides, so a cause comes before what follows from it."""

_CODES: dict[str, tuple[type[RequestError], str]] = {
    "NOT_FOUND": (errors.NotFoundError, "check its name and its tag or digest"),
    "UNAUTHENTICATED": (errors.UnauthorizedError, "give credentials that may pull it"),
    "PERMISSION_DENIED": (errors.UnauthorizedError, "give credentials that may pull it"),
    "DEADLINE_EXCEEDED": (errors.TimedOutError, "check how fast the registry sends"),
    "CANCELLED": (errors.TimedOutError, "check how fast the registry sends"),
    "UNAVAILABLE": (errors.UnreachableError, "check the registry and the node's way to it"),
}


def translate(code: str, text: str, image: str) -> RequestError:
    """The error for a gRPC status, of which ``image`` is the subject. URLs in it can be shown."""
    said = shown(text)
    if code == "UNIMPLEMENTED" or (code == "UNAVAILABLE" and image not in text and "failed to pull" not in text):
        return errors.UnavailableError(f"the container runtime does not answer: {said}; it is asked again")
    for pattern, error, advice in _TEXTS:
        if re.search(pattern, text):
            return error(f"{image}: {advice}; the runtime said: {said}")
    error, advice = _CODES.get(code, (errors.PullFailedError, "see the runtime's log"))
    return error(f"{image}: {advice}; the runtime said: {said}")


def shown(text: str) -> str:
    """``text`` in one line that can be shown: no credentials, no signatures of URLs, not too long."""
    plain = _PREAMBLE.sub("", " ".join(text.split()))
    plain = _URL.sub(lambda match: RedactedURL(match[0].rstrip(":.,;")) + _tail(match[0]), plain)
    return plain if len(plain) <= _MAX_SAID else plain[: _MAX_SAID // 2] + " … " + plain[-_MAX_SAID // 2 :]


def _tail(url: str) -> str:
    return url[len(url.rstrip(":.,;")) :]
