"""URLs without credentials, which are safe to show in logs, events and conditions."""

from __future__ import annotations

from urllib.parse import urlsplit


class RedactedURL(str):
    """A URL without user info, query and fragment. The omitted parts are marked."""

    __slots__ = ()

    def __new__(cls, url: str) -> RedactedURL:
        """Redact ``url``. Other text becomes ``<unreadable URL>``."""
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
