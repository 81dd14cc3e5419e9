"""Turns the runtime's failure of a pull into one of our errors. Pure: its input is a code and a text."""

import re

from pantala_protocol.redaction import RedactedURL
from pantala_runtime import errors
from pantala_runtime.errors import HelperError

_MAX_TEXT = 400
_URL = re.compile(r"[a-z]+://[^\s\"'\\]+")
_PREAMBLE = re.compile(
    r"rpc error: code = \w+ desc = |failed to pull and unpack image \"[^\"]*\": |"
    r"failed to resolve (image|reference \"[^\"]*\"): "
)
"""Text that only repeats that a pull failed, and of which image."""

_CHECK_NAME = "Check its name and its tag or digest"
_CHECK_REGISTRY = "Check the registry and the node's way to it"
_CHECK_SPEED = "Check how fast the registry sends"
_GIVE_CREDENTIALS = "Give credentials that may pull it"

_UNREACHABLE = (
    r"dial tcp|no such host|server misbehaving|connection refused|connection reset|broken pipe|no route to host|"
    r"i/o timeout|\bEOF\b|TLS handshake|x509:|server gave HTTP response to HTTPS client|response headers|"
    r"(?<!\d)5\d\d [A-Z][a-z]|429 Too Many Requests"
)

_TEXTS: tuple[tuple[str, type[HelperError], str], ...] = (
    (r"no space left on device|disk quota exceeded", errors.NodeFullError, "Free space on the node"),
    (
        r"unexpected commit (digest|size)|digest mismatch|failed size validation|failed digest",
        errors.PullDigestError,
        "The registry or the mirror sent another image. Look at their logs",
    ),
    (
        r"failed to parse image reference|invalid reference format|could not parse reference|invalid reference",
        errors.InvalidImageError,
        "Correct the image's name",
    ),
    (
        r"401 Unauthorized|403 Forbidden|insufficient_scope|pull access denied|no basic auth credentials",
        errors.PullUnauthorizedError,
        _GIVE_CREDENTIALS,
    ),
    (r"404 Not Found|manifest unknown|name unknown", errors.NoSuchImageError, _CHECK_NAME),
    (_UNREACHABLE, errors.PullUnreachableError, _CHECK_REGISTRY),
    (r"authorization failed|failed to authorize", errors.PullUnauthorizedError, _GIVE_CREDENTIALS),
    (r"context (canceled|deadline exceeded)", errors.PullTimeoutError, _CHECK_SPEED),
)
"""The first match decides, so a cause comes before its consequences."""

_CODES: dict[str, tuple[type[HelperError], str]] = {
    "NOT_FOUND": (errors.NoSuchImageError, _CHECK_NAME),
    "UNAUTHENTICATED": (errors.PullUnauthorizedError, _GIVE_CREDENTIALS),
    "PERMISSION_DENIED": (errors.PullUnauthorizedError, _GIVE_CREDENTIALS),
    "DEADLINE_EXCEEDED": (errors.PullTimeoutError, _CHECK_SPEED),
    "CANCELLED": (errors.PullTimeoutError, _CHECK_SPEED),
    "UNAVAILABLE": (errors.PullUnreachableError, _CHECK_REGISTRY),
}


def translate(code: str, text: str, image: str) -> HelperError:
    """The error for a gRPC status about ``image``. The message shows no secrets of URLs."""
    reported = redact(text)
    if code == "UNIMPLEMENTED" or (code == "UNAVAILABLE" and image not in text and "failed to pull" not in text):
        return errors.RuntimeSilentError(f"the container runtime does not answer: {reported}. The request is repeated.")
    for pattern, error, advice in _TEXTS:
        if re.search(pattern, text):
            return error(f"{image}: {advice}. The runtime reported: {reported}")
    error, advice = _CODES.get(code, (errors.PullFailedError, "See the runtime's log"))
    return error(f"{image}: {advice}. The runtime reported: {reported}")


def redact(text: str) -> str:
    """``text`` in one line of bounded length, without credentials and signatures in URLs."""
    plain = _PREAMBLE.sub("", " ".join(text.split()))
    plain = _URL.sub(lambda match: RedactedURL(match[0].rstrip(":.,;")) + _tail(match[0]), plain)
    return plain if len(plain) <= _MAX_TEXT else plain[: _MAX_TEXT // 2] + " … " + plain[-_MAX_TEXT // 2 :]


def _tail(url: str) -> str:
    return url[len(url.rstrip(":.,;")) :]
