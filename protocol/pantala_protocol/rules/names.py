"""Rules for the paths and URLs of users' files, and for the names of Kubernetes' objects.

``charts/generate.py`` writes these rules into the CRD, so the API server rejects the paths that a node would reject.
The patterns mean the same in Python and in RE2. They name characters by number, because Unicode's classes change
between versions.
"""

import re
from typing import Final, NamedTuple

from pantala_protocol.rules.text import split_list

MAX_URL: Final = 8192
"""The most characters of a URL. Signed URLs of object stores have a few thousand."""
MAX_PATH: Final = 1024
"""The most characters of a path below the nodes' folder of published files."""
MAX_NAME: Final = 255
"""The most bytes of one part of a path, which is the limit of Linux."""
RESERVED: Final = ".pantala-"
"""The prefix of Pantala's temporary files."""

MAX_OBJECT: Final = 253
"""The most characters of an object's name in Kubernetes."""
OBJECT: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""The names of Secrets and of most other objects in Kubernetes: subdomains of DNS (RFC 1123)."""
_OBJECT = re.compile(OBJECT)


class ForbiddenPart(NamedTuple):
    """A pattern that must not match anywhere in a path."""

    pattern: str
    """The regular expression. It has ``\\uXXXX`` for a character that is not ASCII."""
    message: str
    """The end of a sentence that begins with the path."""


FORBIDDEN: Final = (
    ForbiddenPart(r"/$", "must name a file, not end with a slash"),
    ForbiddenPart(r"//", "must not contain an empty part (//)"),
    ForbiddenPart(r"(^|/)\.\.?(/|$)", "must not contain . or .. as a part"),
    ForbiddenPart(
        r"[\x00-\x1f\x7f-\x9f\u2028\u2029]",
        "must not contain control characters, line separators or paragraph separators",
    ),
    ForbiddenPart(r"[\u202a-\u202e\u2066-\u2069]", "must not contain characters that change the direction of text"),
    ForbiddenPart(rf"(^|/){re.escape(RESERVED)}", f"must not have a part that begins with {RESERVED}"),
)
"""All other characters are allowed, for example special blanks and joiners, which occur in real file names."""
LONG_NAME: Final = f"must not have a part of more than {MAX_NAME} bytes in UTF-8"
_FORBIDDEN = tuple((re.compile(pattern), message) for pattern, message in FORBIDDEN)


def fault(path: str) -> str | None:
    """What is wrong with a path, as the end of a sentence that begins with the path. ``None``: the path is valid."""
    try:
        sizes = [len(name.encode()) for name in path.split("/")]
    except UnicodeEncodeError:
        return "must be text"
    if not 0 < len(path) <= MAX_PATH:
        return f"must have 1 to {MAX_PATH} characters"
    if path.startswith("/"):
        return "must not begin with a slash"
    found = next((message for pattern, message in _FORBIDDEN if pattern.search(path)), None)
    return LONG_NAME if found is None and max(sizes) > MAX_NAME else found


def is_object(name: str) -> bool:
    """True if ``name`` can be the name of a Secret.

    ``../../other/secrets/s`` cannot. In a URL, it would be a Secret of another namespace.
    """
    return len(name) <= MAX_OBJECT and _OBJECT.fullmatch(name) is not None


class SharedPath(NamedTuple):
    """A folder or a file outside a namespace's own folder, where the namespace may publish."""

    namespace: str
    prefix: str
    """The path of the folder, relative to the folder of published files."""


def shared_paths(text: str) -> tuple[SharedPath, ...]:
    """Read a list ``NAMESPACE=PREFIX,...``.

    Raises :class:`ValueError` with the end of a sentence that begins with the list.
    """
    return tuple(map(_shared_path, split_list(text)))


def _shared_path(text: str) -> SharedPath:
    namespace, equals, prefix = text.partition("=")
    if not namespace or not equals:
        raise ValueError(f"names {text[:100]!r} without a namespace or a path. Write NAMESPACE=PREFIX.")
    wrong = fault(prefix)
    if wrong is not None:
        raise ValueError(f"has a path that is not valid. {prefix[:100]!r} {wrong}.")
    return SharedPath(namespace, prefix)
