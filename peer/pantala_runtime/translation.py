"""Translates a gRPC error of the container runtime into a :class:`HelperError`. Pure."""

import re

from pantala_protocol import reasons
from pantala_protocol.redaction import RedactedURL
from pantala_runtime import errors
from pantala_runtime.errors import HelperError

_MAX_TEXT = 400
_URL = re.compile(r"(?<![a-z])[a-z]+://[^\s\"'\\]+")
_PREAMBLE = re.compile(
    r"rpc error: code = \w+ desc = |failed to pull and unpack image \"[^\"]*\": |"
    r"failed to resolve (image|reference \"[^\"]*\"): "
)
"""Parts of an error's text that only repeat the failed pull and the image."""

_UNREACHABLE = (
    r"dial tcp|no such host|server misbehaving|connection refused|connection reset|broken pipe|no route to host|"
    r"i/o timeout|\bEOF\b|TLS handshake|x509:|server gave HTTP response to HTTPS client|response headers|"
    r"(?<!\d)5\d\d [A-Z][a-z]|429 Too Many Requests"
)

_TEXTS: tuple[tuple[str, type[HelperError]], ...] = (
    (r"no space left on device|disk quota exceeded", errors.NodeFullError),
    (r"unexpected commit (digest|size)|digest mismatch|failed size validation|failed digest", errors.PullDigestError),
    (
        r"failed to parse image reference|invalid reference format|could not parse reference|invalid reference",
        errors.InvalidImageError,
    ),
    (
        r"401 Unauthorized|403 Forbidden|insufficient_scope|pull access denied|no basic auth credentials",
        errors.PullUnauthorizedError,
    ),
    (r"404 Not Found|manifest unknown|name unknown", errors.NoSuchImageError),
    (_UNREACHABLE, errors.PullUnreachableError),
    (r"authorization failed|failed to authorize", errors.PullUnauthorizedError),
    (r"context (canceled|deadline exceeded)", errors.PullTimeoutError),
)
"""Patterns in the error's text. The first match is used, so causes come before their consequences."""

_CODES: dict[str, type[HelperError]] = {
    "NOT_FOUND": errors.NoSuchImageError,
    "UNAUTHENTICATED": errors.PullUnauthorizedError,
    "PERMISSION_DENIED": errors.PullUnauthorizedError,
    "DEADLINE_EXCEEDED": errors.PullTimeoutError,
    "CANCELLED": errors.PullTimeoutError,
    "UNAVAILABLE": errors.PullUnreachableError,
}


def translate(code: str, text: str, image: str) -> HelperError:
    """The error for a gRPC ``code`` and ``text`` about ``image``. The error's message contains no secrets from URLs."""
    reported = redact(text)
    if code == "UNIMPLEMENTED" or (code == "UNAVAILABLE" and image not in text and "failed to pull" not in text):
        return errors.RuntimeSilentError(f"the container runtime does not answer: {reported}. The peer retries.")
    matches = (error for pattern, error in _TEXTS if re.search(pattern, text))
    kind = next(matches, None) or _CODES.get(code, errors.PullFailedError)
    advice = reasons.of_image(kind.reason).action
    return kind(f"{image}: the container runtime reported: {reported.rstrip('. ')}. {advice}")


def redact(text: str) -> str:
    """``text`` in one line of limited length, without credentials and signatures in URLs."""
    plain = _PREAMBLE.sub("", " ".join(text.split()))
    plain = _URL.sub(lambda match: RedactedURL(match[0].rstrip(":.,;")) + _tail(match[0]), plain)
    return plain if len(plain) <= _MAX_TEXT else plain[: _MAX_TEXT // 2] + " … " + plain[-_MAX_TEXT // 2 :]


def _tail(url: str) -> str:
    return url[len(url.rstrip(":.,;")) :]
