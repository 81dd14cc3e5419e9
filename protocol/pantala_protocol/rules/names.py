"""What users may call files: their paths on nodes and their URLs.

``charts/generate.py`` writes these rules into the CRD, so that the API server refuses what a node would refuse. The
patterns mean the same to Python and to RE2, and name characters by number: the classes of Unicode change with it.
"""

import re
from typing import Final, NamedTuple

MAX_URL: Final = 8192
"""Characters of a URL. Signed URLs of object stores have a few thousand."""
MAX_PATH: Final = 1024
"""Characters of a path below the nodes' root."""
MAX_NAME: Final = 255
"""Bytes of one part of a path, the limit of Linux."""
RESERVED: Final = ".pantala-"
"""The prefix of our own temporary files."""


class ForbiddenPart(NamedTuple):
    """What a path must not have anywhere."""

    pattern: str
    """With ``\\uXXXX`` for a character that is not ASCII."""
    message: str


FORBIDDEN: Final = (
    ForbiddenPart(r"/$", "must name a file, not end with a slash"),
    ForbiddenPart(r"//", "must not contain an empty part (//)"),
    ForbiddenPart(r"(^|/)\.\.?(/|$)", "must not contain . or .. as a part"),
    ForbiddenPart(
        r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "must not contain control characters or line and paragraph separators"
    ),
    ForbiddenPart(r"[\u202a-\u202e\u2066-\u2069]", "must not contain characters that turn the direction of text"),
    ForbiddenPart(rf"(^|/){re.escape(RESERVED)}", f"must not have a part that begins with {RESERVED}"),
)
"""All other characters are allowed: file names of desktops have blanks of every width, and joiners."""
LONG_NAME: Final = f"must not have a part of more than {MAX_NAME} bytes in UTF-8"
_FORBIDDEN = tuple((re.compile(pattern), message) for pattern, message in FORBIDDEN)


def fault(path: str) -> str | None:
    """What is wrong with a path below the nodes' root. ``None``: it may name a file."""
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
