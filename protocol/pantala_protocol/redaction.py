"""URLs that can be shown: a type, so that a credential cannot slip into a log, an event or a condition."""

from __future__ import annotations

from urllib.parse import urlsplit


class RedactedURL(str):
    """A URL without user info, query and fragment; what was left out is marked. Always safe to show."""

    __slots__ = ()

    def __new__(cls, url: str) -> RedactedURL:
        """Redact ``url``; text that is no URL becomes ``<unreadable URL>``."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return str.__new__(cls, "<unreadable URL>")
        if not parts.scheme or not host:
            return str.__new__(cls, "<unreadable URL>")
        shown = f"[{host}]" if ":" in host else host
        if port is not None:
            shown += f":{port}"
        user = "…@" if "@" in parts.netloc else ""
        return str.__new__(cls, f"{parts.scheme}://{user}{shown}{parts.path}{'?…' if parts.query else ''}")
