"""URLs without credentials, which are safe to show in logs, events and conditions."""

from __future__ import annotations

from urllib.parse import urlsplit

_MAX_HOST = 253


class RedactedURL(str):
    """Scheme, host and port of a URL. The omitted parts are marked with an ellipsis.

    User info, query and path may all hold secrets: object stores and file shares put tokens into paths too. Each
    message also names the Task or the image, so readers know which file it is about.
    """

    __slots__ = ()

    def __new__(cls, url: str) -> RedactedURL:
        """Redact ``url``. A text that is not a URL becomes ``<unreadable URL>``."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            if host is not None and not (host.isascii() and host.isprintable() and len(host) <= _MAX_HOST):
                host = None
        except ValueError:
            return str.__new__(cls, "<unreadable URL>")
        if not parts.scheme or not host:
            return str.__new__(cls, "<unreadable URL>")
        shown = f"[{host}]" if ":" in host else host
        if port is not None:
            shown += f":{port}"
        user = "…@" if "@" in parts.netloc else ""
        rest = "/…" if parts.path not in ("", "/") or parts.query or parts.fragment else parts.path
        return str.__new__(cls, f"{parts.scheme}://{user}{shown}{rest}")
