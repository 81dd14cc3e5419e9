"""Sends one request and follows its redirects, in the thread of the caller."""

import re
from concurrent.futures import Future
from dataclasses import dataclass, field

import pycurl
from multidict import CIMultiDict

from pantala_protocol import __version__
from pantala_protocol.rules import headers
from pantala_supernode.errors import SourceDeniedError
from pantala_supernode.outbound import proxy
from pantala_supernode.outbound.errors import CancelledTransferError, Fault, OutboundError
from pantala_supernode.outbound.handles import HandlePool
from pantala_supernode.outbound.request import Head, Limits, Request, Sink, Timeouts
from pantala_supernode.outbound.route import Route
from pantala_supernode.outbound.target import RequestTarget
from pantala_supernode.outbound.transfer import Transfer
from pantala_supernode.outbound.trust import Trust

_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})
"""Statuses whose ``Location`` is followed. With 300, it names the server's preferred choice, as in curl."""
_FRAMING = frozenset({"content-length", "transfer-encoding"})
"""Fields that change where a request ends. The next request on the connection would then be read as its body."""
_PROXY_FAILURES = frozenset({407, 502, 504})
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A token of RFC 9110, 5.6.2."""


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """Follows a request to its final answer. :meth:`cancel` may be called from any thread."""

    request: Request
    sink: Sink
    handles: HandlePool
    route: Route
    trust: Trust
    timeouts: Timeouts
    limits: Limits
    _transfer: Transfer | None = None
    _cancelled: Future[None] = field(default_factory=Future)
    _cookies: list[bytes] = field(default_factory=list)
    """The cookies that redirects have set, in libcurl's notation. Some servers redirect until they get these."""
    _forwarded: bool = False
    """True while a proxy can read the request and its answer. For https, it only passes on encrypted bytes."""

    def cancel(self) -> None:
        if not self._cancelled.done():
            self._cancelled.set_result(None)
        if self._transfer is not None:
            self._transfer.cancel()

    def run(self) -> Head:
        """Return the head of the final answer, after its body.

        Raises :class:`OutboundError`, :class:`CancelledTransferError`,
        :class:`pantala_supernode.errors.SourceDeniedError`, or an exception of the sink.
        """
        first = target = RequestTarget.parse(self.request.url)
        credentials = True
        for _ in range(self.limits.redirects + 1):
            head = self._hop(target, credentials=credentials, same_origin=target.origin == first.origin)
            if not self._leads_on(head):
                return head
            following = target.redirected(head.fields["Location"])
            credentials &= target.may_show_credentials(following)
            target = following
        raise OutboundError(Fault.REDIRECTS, f"more than {self.limits.redirects} times")

    def _hop(self, target: RequestTarget, *, credentials: bool, same_origin: bool) -> Head:
        with self.handles.borrowed(target.origin) as handle:
            curl = handle.curl
            destination, through = self.route.apply(
                curl, target, seconds=self.timeouts.connect, cancelled=self._cancelled
            )
            self._forwarded = through is not None and target.url.scheme == "http"
            self.trust.apply(curl, target.host, self.request.ca)
            request = self.request
            if through is not None:
                self.trust.apply_to_proxy(curl, through.host)
                request = _without_proxy_fields(request)
            _describe(curl, request, target, credentials=credentials)
            curl.setopt(pycurl.REQUEST_TARGET, str(target) if self._forwarded else target.url.raw_path_qs)
            self._set_cookies(curl, request, credentials=credentials)
            curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(self.timeouts.connect * 1000))
            transfer = self._transfer = Transfer(
                handle,
                destination=destination,
                timeouts=self.timeouts,
                head_limit=self.limits.head,
                on_head=self._begin,
                on_body=self.sink.take,
                same_origin=same_origin,
                url=str(target),
            )
            try:
                if self._cancelled.done():
                    raise CancelledTransferError
                return transfer.run()
            except (OutboundError, SourceDeniedError) as error:
                raise error if through is None else _of_proxy(error) from None
            finally:
                self._cookies = curl.getinfo_raw(pycurl.INFO_COOKIELIST)
                transfer.release()

    def _set_cookies(self, curl: pycurl.Curl, request: Request, *, credentials: bool) -> None:
        """Send the cookies of earlier redirects to their hosts, unless the task sends a cookie of its own."""
        curl.setopt(pycurl.COOKIEFILE, "")
        curl.setopt(pycurl.COOKIELIST, "ALL")  # forgets the cookies of other requests
        own = {name.lower() for name in (*request.headers, *(request.credentials if credentials else ()))}
        for each in () if "cookie" in own else self._cookies:
            curl.setopt(pycurl.COOKIELIST, each)

    def _begin(self, head: Head) -> bool:
        if self._forwarded and head.status in _PROXY_FAILURES:
            raise proxy.refusal(head.status)
        if self._leads_on(head):
            return False
        self.sink.begin(head)
        return True

    def _leads_on(self, head: Head) -> bool:
        return head.status in _REDIRECTS and "Location" in head.fields and self.request.form is None


def _describe(handle: pycurl.Curl, request: Request, target: RequestTarget, *, credentials: bool) -> None:
    """Set the URL, the method, the header fields, the body and the accepted versions of HTTP on ``handle``."""
    handle.setopt(pycurl.URL, str(target))
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    handle.setopt(pycurl.HTTP09_ALLOWED, 0)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.PATH_AS_IS, 1)
    handle.setopt(pycurl.HTTPHEADER, _lines(request, credentials=credentials))
    if request.method == "HEAD":
        handle.setopt(pycurl.NOBODY, 1)
    elif request.method == "POST":
        handle.setopt(pycurl.POSTFIELDS, request.form or b"")


def _of_proxy(error: OutboundError | SourceDeniedError) -> OutboundError:
    """The error for a failed connection to a proxy. It names the proxy, and not the target, as the cause."""
    if isinstance(error, SourceDeniedError):
        return OutboundError(Fault.PROXY, "the proxy's address is in a forbidden network")
    if error.fault in (Fault.REFUSED, Fault.UNREACHABLE):
        return OutboundError(Fault.PROXY, f"the proxy {error.fault.value}")
    return error


def _without_proxy_fields(request: Request) -> Request:
    """The request without ``Proxy-`` headers, because a task must not authenticate at the administrator's proxy."""
    fields = {name: value for name, value in request.headers.items() if not name.lower().startswith("proxy-")}
    credentials = {name: value for name, value in request.credentials.items() if not name.lower().startswith("proxy-")}
    return request._replace(headers=fields, credentials=credentials)


def _lines(request: Request, *, credentials: bool) -> list[bytes]:
    """The header fields as libcurl takes them, in bytes. Names keep the user's upper and lower case."""
    fields = CIMultiDict(request.headers)
    if credentials:
        fields.update(request.credentials)
    fields.setdefault("User-Agent", f"pantala/{__version__}")
    fields["Accept-Encoding"] = "identity"
    for name, value in fields.items():
        if not _NAME.fullmatch(name) or not headers.is_valid(value):
            raise OutboundError(Fault.HEADERS, "a header has an invalid name or an invalid character")
        if name.lower() in _FRAMING:
            raise OutboundError(Fault.HEADERS, f"{name} must not be set, because it belongs to the connection")
    # In libcurl's notation, a semicolon ends a field without a value, and a colon alone removes a field.
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in fields.items()]
    return [*map(headers.to_bytes, lines), b"Expect:"]
