"""Each error of containerd becomes one of ours. The texts are those of containerd 1.6.20 and 2.3.4."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol.reasons import Reason
from pantala_runtime import errors
from pantala_runtime.translation import redact, translate

IMAGE = "r.example:5000/team/app:1"
PULL = f'failed to pull and unpack image "{IMAGE}": '
RESOLVE = PULL + f'failed to resolve reference "{IMAGE}": '
COMMIT = "failed commit on ref: unexpected commit digest sha256:1, expected sha256:2: failed precondition"
RESOLVE_2 = PULL + "failed to resolve image: "


CAUSES: dict[type[errors.HelperError], list[str]] = {
    errors.NoSuchImageError: [
        RESOLVE + "unexpected status code [manifests 1]: 404 Not Found",
    ],
    errors.PullUnauthorizedError: [
        RESOLVE + "pulling from host r.example:5000 failed with status code [manifests 1]: 401 Unauthorized",
        RESOLVE_2 + "pull access denied, repository does not exist or may require authorization: "
        "authorization failed: no basic auth credentials",
        RESOLVE_2 + "unexpected status from HEAD request to http://r.example:5000/v2/a/manifests/1: 401 Unauthorized",
        RESOLVE + "unexpected status: 403 Forbidden",
    ],
    errors.PullUnreachableError: [
        RESOLVE + "failed to authorize: failed to fetch oauth token: Post https://auth/: dial tcp: i/o timeout",
        RESOLVE + 'failed to do request: Head "http://r/": dial tcp: no such host',
        RESOLVE + 'failed to do request: Head "https://r/": http: server gave HTTP response to HTTPS client',
        RESOLVE + "unexpected status [manifests 1]: 503 Service Unavailable",
        RESOLVE + 'Head "https://r/": x509: certificate signed by unknown authority',
    ],
    errors.NodeFullError: [PULL + "write /var/lib/x: no space left on device"],
    errors.InvalidImageError: [f'failed to parse image reference "{IMAGE}": invalid reference format'],
    errors.PullTimeoutError: [PULL + "context canceled"],
    errors.PullFailedError: [PULL + "something new", "sha256:12503 Bad"],
}
"""Texts with the code UNKNOWN."""


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        *(("UNKNOWN", text, expected) for expected, texts in CAUSES.items() for text in texts),
        ("NOT_FOUND", RESOLVE + f"{IMAGE}: not found", errors.NoSuchImageError),
        ("NOT_FOUND", RESOLVE_2 + f"{IMAGE}: not found", errors.NoSuchImageError),
        ("FAILED_PRECONDITION", PULL + COMMIT, errors.PullDigestError),
        ("FAILED_PRECONDITION", PULL + "unexpected commit size 3, expected 4", errors.PullDigestError),
        ("UNAVAILABLE", RESOLVE_2 + "the registry: unavailable", errors.PullUnreachableError),
        ("DEADLINE_EXCEEDED", "anything", errors.PullTimeoutError),
        ("UNAVAILABLE", "failed to connect to all addresses; last: connection refused", errors.RuntimeSilentError),
        ("UNAVAILABLE", "Stream removed (Socket closed)", errors.RuntimeSilentError),
        ("UNIMPLEMENTED", "unknown service runtime.v1.ImageService", errors.RuntimeSilentError),
    ],
)
def test_each_cause_has_its_error(code: str, text: str, expected: type[errors.HelperError]) -> None:
    assert expected is type(translate(code, text, IMAGE))


def test_the_message_gives_the_cause_and_the_advice_once() -> None:
    cause = 'Head "http://r/": dial tcp: refused'
    expected = f"{IMAGE}: the container runtime reported: {cause}. {Reason.UNREACHABLE.action}"
    assert expected == str(translate("UNKNOWN", RESOLVE + cause, IMAGE))


@given(st.text("abc /?&=", max_size=20), st.text("xyz", min_size=4, max_size=9), st.text("'\",: \n", max_size=3))
def test_passwords_and_signatures_in_urls_are_hidden(before: str, secret: str, after: str) -> None:
    for url in (
        f"https://user:{secret}@r.example/v2/",
        f"http://r.example/blob?X-Signature={secret}",
        f"http://[{secret}",
    ):
        assert secret not in redact(f"{before} {url}{after} {before}")


@given(st.text(max_size=3000))
def test_the_text_becomes_one_short_line(text: str) -> None:
    line = redact(text)
    assert len(line) <= 410
    assert line.splitlines() in ([], [line])
