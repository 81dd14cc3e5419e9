"""What a registry's refusal means, in one place."""

from __future__ import annotations

from collections.abc import Mapping

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin import refusal
from pantala_supernode.registry.errors import (
    ImageNotFoundError,
    InvalidAnswerError,
    RateLimitedError,
    RegistryError,
    RegistryForbiddenError,
    RegistryUnauthorizedError,
)

_KINDS: dict[int, tuple[type[RegistryError], str]] = {
    401: (RegistryUnauthorizedError, "the registry wants credentials, or other ones"),
    403: (RegistryForbiddenError, "the registry does not allow it"),
    404: (ImageNotFoundError, "the registry does not have it"),
    410: (ImageNotFoundError, "the registry does not have it any more"),
    429: (RateLimitedError, "the registry was asked too often"),
}


def raise_for_status(status: int, headers: Mapping[str, str], what: str) -> None:
    """Raise what ``status`` says of ``what``, unless it is 200 or 206."""
    try:
        refusal.raise_for_status(status, headers, RedactedURL(""))
    except errors.SourceError as error:
        kind, happened = _KINDS.get(status, (RegistryError, f"the registry answered {status}"))
        if status < 400:
            kind = InvalidAnswerError
        raise kind.of(what, happened, retry_after=error.retry_after) from None
