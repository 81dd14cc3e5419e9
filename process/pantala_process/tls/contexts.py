"""The TLS contexts of a process. A renewed certificate replaces the contexts. Open connections continue."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pantala_process.tls import names

_TICKETS = 0
"""The number of TLS session tickets. Without them, each new connection proves its certificate again."""

_VERIFY = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
"""Partial chains are allowed: cert-manager may use an intermediate authority whose root is not in the bundle."""


class TLSContexts:
    """Mutual TLS 1.3 with this process's certificate. Use :attr:`server` or :attr:`client` for each new connection.

    Before the first :meth:`load`, no connection is possible.
    """

    def __init__(self) -> None:
        self.name = ""
        """This process's name in its certificate."""
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.listener = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """For a server that needs one context for its whole life. Each handshake uses the newest :attr:`server`."""
        self.listener.verify_mode = ssl.CERT_REQUIRED
        self.listener.verify_flags |= _VERIFY  # a handshake keeps these, also with another context
        self.listener.sni_callback = self._newest
        self.open_listener = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """For a server whose clients have no certificate yet."""
        for context in (self.listener, self.open_listener):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = _TICKETS

    def load(self, name: str, identity: bytes, authorities: bytes) -> None:
        """Use a key with its certificate, and the authorities that sign other certificates. Raises ``SSLError``."""
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server.num_tickets = _TICKETS
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= _VERIFY
            context.load_verify_locations(cadata=authorities.decode("ascii"))
            _load_chain(context, identity)
        _load_chain(self.open_listener, identity)
        self.name, self.server, self.client = name, server, client

    def _newest(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self.server


def client_only(authorities: bytes) -> ssl.SSLContext:
    """A context for a client that has no certificate yet. Raises :class:`ssl.SSLError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= _VERIFY
    context.load_verify_locations(cadata=authorities.decode("ascii"))
    return context


def name_of(certificate: Mapping[str, Any] | None) -> str | None:
    """The process's name in the certificate of a connection, as ``getpeercert()`` returns it.

    ``None``: the connection is plain. Empty: the certificate has no name of a process.
    """
    if certificate is None:
        return None
    for kind, name in certificate.get("subjectAltName", ()):
        if kind == "DNS" and names.parse(name) is not None:
            return str(name)
    return ""


def _load_chain(context: ssl.SSLContext, identity: bytes) -> None:
    """Load a key and its certificate. ``ssl`` reads only files, so a file in memory contains them."""
    memory = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(identity)
        context.load_cert_chain(Path(f"/proc/self/fd/{memory}"))
    finally:
        os.close(memory)
