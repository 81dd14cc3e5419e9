"""URLs of requests, and the rules of redirects."""

import pytest

from pantala_supernode.outbound.errors import Fault, OutboundError
from pantala_supernode.outbound.target import RequestTarget


@pytest.mark.parametrize(
    ("url", "location", "target", "kept"),
    [
        ("http://a.example/x", "/y", "http://a.example/y", True),
        ("http://a.example/x", "http://a.example:80/y", "http://a.example/y", True),
        ("http://a.example/x", "http://A.EXAMPLE/y", "http://A.EXAMPLE/y", True),
        ("http://a.example/x", "https://a.example/y", "https://a.example/y", True),
        ("http://a.example:80/x", "https://a.example:443/y", "https://a.example/y", True),
        ("https://a.example:8443/x", "y?z=1", "https://a.example:8443/y?z=1", True),
        ("https://a.example/x", "//a.example/y", "https://a.example/y", True),
        ("http://[2001:db8::1]/x", "https://[2001:db8::1]/y", "https://[2001:db8::1]/y", True),
        ("http://a.example/x", "http://b.example/y", "http://b.example/y", False),
        ("http://a.example/x", "https://b.example/y", "https://b.example/y", False),
        ("http://a.example/x", "https://a.example:8443/y", "https://a.example:8443/y", False),
        ("http://a.example:8080/x", "https://a.example/y", "https://a.example/y", False),
        ("http://a.example/x", "http://a.example:8080/y", "http://a.example:8080/y", False),
        ("https://a.example/x", "https://a.example:444/y", "https://a.example:444/y", False),
        ("https://a.example/x", "https://www.a.example/y", "https://www.a.example/y", False),
        ("https://a.example/x", "https://b\xc3\xbccher.example/y", "https://xn--bcher-kva.example/y", False),
        ("https://a.example/x", "https://a.example.evil.example/y", "https://a.example.evil.example/y", False),
    ],
)
def test_credentials_stay_on_one_origin_and_on_the_step_to_https(
    url: str, location: str, target: str, *, kept: bool
) -> None:
    first = RequestTarget.parse(url)
    following = first.redirected(location)
    assert (target, kept) == (str(following), first.may_show_credentials(following))


@pytest.mark.parametrize(
    ("url", "location", "fault"),
    [
        ("https://a.example/x", "http://a.example/y", Fault.DOWNGRADE),
        ("https://a.example/x", "http://a.example:443/y", Fault.DOWNGRADE),
        ("https://a.example/x", "http://b.example/y", Fault.DOWNGRADE),
        ("http://a.example/x", "ftp://a.example/y", Fault.REDIRECT_SCHEME),
        ("http://a.example/x", "file:///etc/passwd", Fault.REDIRECT_SCHEME),
        ("http://a.example/x", "gopher://a.example/", Fault.REDIRECT_SCHEME),
        ("http://a.example/x", "http://user:secret@a.example/y", Fault.REDIRECT),
        ("http://a.example/x", "http://a.example:99999/y", Fault.REDIRECT),
        ("http://a.example/x", "http://a.example:0/y", Fault.REDIRECT),
        ("http://a.example/x", "http://b\xfccher.example/y", Fault.REDIRECT),
        ("http://a.example/x", "http://\xc3\xbc..example/y", Fault.REDIRECT),
    ],
)
def test_other_redirects_are_refused(url: str, location: str, fault: Fault) -> None:
    with pytest.raises(OutboundError) as caught:
        RequestTarget.parse(url).redirected(location)
    assert fault is caught.value.fault
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("http://a.example/a b", "http://a.example/a%20b"),
        ("http://a.example/ä", "http://a.example/%C3%A4"),
        ("http://a.example/%2F%2f", "http://a.example/%2F%2f"),
        ("http://a.example/100%", "http://a.example/100%25"),
        ("http://a.example/%zz", "http://a.example/%25zz"),
        ("http://a.example/a+b?x=1&y=%20", "http://a.example/a+b?x=1&y=%20"),
        ('http://a.example/"<>|', "http://a.example/%22%3C%3E%7C"),
        ("http://a.example/a#part", "http://a.example/a"),
        ("http://a.example/?sig=a/b==&q={x}", "http://a.example/?sig=a/b==&q=%7Bx%7D"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://faß.example:8080/", "http://xn--fa-hia.example:8080/"),
        ("http://日本。example/", "http://xn--wgv71a.example/"),
        ("http://☃.example/?a=ß", "http://xn--n3h.example/?a=%C3%9F"),
    ],
)
def test_bytes_that_a_url_cannot_contain_are_encoded_and_others_stay(written: str, sent: str) -> None:
    assert sent == str(RequestTarget.parse(written))


@pytest.mark.parametrize(
    "text",
    [
        "", "a.example/x", "ftp://a.example/", "http://", "http://u:p@a.example/", "http://a.example:x/", "//a/b",
        "http://ü..example/",
    ],
)  # fmt: skip
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(OutboundError) as caught:
        RequestTarget.parse(text)
    assert caught.value.fault is Fault.URL


def test_the_bytes_of_a_location_are_read_as_latin_1() -> None:
    target = RequestTarget.parse("http://a.example/x").redirected("/ä".encode().decode("latin-1"))
    assert str(target) == "http://a.example/%C3%A4"
