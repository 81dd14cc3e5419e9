"""The files of the web page, which are part of the package.

The console serves them unchanged: no build step makes them.
"""

import hashlib
from importlib import resources
from typing import Final, NamedTuple

_FOLDER: Final = "page"
_KINDS: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_START: Final = "page.html"


class Asset(NamedTuple):
    """One file of the page."""

    body: bytes
    kind: str
    """Its media type."""
    tag: str
    """Its ETag, which changes with the content."""


def read_assets() -> dict[str, Asset]:
    """All files by the path of their route. The page itself is at ``/``."""
    found = {}
    for each in sorted(resources.files(__package__).joinpath(_FOLDER).iterdir(), key=lambda file: file.name):
        kind = _KINDS.get("." + each.name.rpartition(".")[2])
        if kind is not None:
            body = each.read_bytes()
            path = "/" if each.name == _START else f"/{each.name}"
            found[path] = Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
    return found
