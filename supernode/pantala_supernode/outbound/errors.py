"""Why a request got no usable answer. The packages ``origin`` and ``registry`` map faults to their own errors."""

import enum


class Fault(enum.Enum):
    """What happened to a request. The value is the end of a sentence that begins with the URL."""

    URL = "is not a valid http: or https: URL without credentials"
    HEADERS = "was not asked, because the headers for it are not valid"
    HOST_UNKNOWN = "has an unknown host name"
    PROXY = "was not reached through the proxy"
    REFUSED = "refused the connection"
    UNREACHABLE = "cannot be reached"
    CERTIFICATE = "has a certificate that is not valid"
    NO_TLS = "answered without TLS, as a server for http: does"
    TIMEOUT = "did not send data in time"
    INTERRUPTED = "cut the connection"
    PROTOCOL = "sent an answer that is not valid HTTP"
    HEAD_TOO_LARGE = "sent more header bytes than the limit"
    BODY_TOO_LONG = "sent more bytes than it announced"
    REDIRECT = "redirects to an invalid URL"
    REDIRECT_SCHEME = "redirects to a URL that is neither http: nor https:"
    DOWNGRADE = "redirects from https: to http:, which is forbidden"
    REDIRECTS = "redirects too often"


class OutboundError(Exception):
    """A request failed. ``detail`` names the cause, but quotes no text from the server, which may contain a secret."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{fault.value} ({detail})" if detail else fault.value)
        self.fault = fault


class CancelledTransferError(Exception):
    """The caller cancelled the transfer."""
