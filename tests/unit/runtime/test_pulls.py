"""Requests for one image share a pull, which ends with the last of them."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol.image import parse
from pantala_protocol.reasons import Reason
from pantala_protocol.runtime import PullCredentials, PulledImage
from pantala_runtime import errors
from pantala_runtime.errors import PullDigestError, PullTimeoutError
from pantala_runtime.pulls import Pulls
from pantala_runtime.translation import redact, translate
from tests.support.runtime import FakeRuntime

pytestmark = pytest.mark.virtual_time

DIGEST = "sha256:" + "a" * 64

APP = parse("r.example/team/app:1")
PINNED_APP = parse(f"r.example/team/app@{DIGEST}")
ANN = PullCredentials("ann", "secret", "https://r.example")


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime({str(APP): DIGEST, str(PINNED_APP): DIGEST})


@pytest.fixture
def pulls(runtime: FakeRuntime) -> Pulls:
    clock = itertools.count(1.0)
    return Pulls(runtime, lambda: next(clock))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def begin(pulls: Pulls, credentials: PullCredentials | None = None) -> asyncio.Task[PulledImage]:
    return asyncio.create_task(pulls.pull(APP, credentials, timeout=10))


async def test_all_requests_for_an_image_share_one_pull(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = [begin(pulls) for _ in range(3)]
    await settle()
    runtime.free.set()
    assert {PulledImage(DIGEST, 7, 1.0, pinned=False)} == {await one for one in asked}
    assert [(str(APP), None)] == runtime.pulls


async def test_a_pull_with_other_credentials_waits_for_the_running_one(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    asked = [begin(pulls), begin(pulls, credentials=ANN)]
    await settle()
    assert [(str(APP), None)] == runtime.pulls
    runtime.free.set()
    await asyncio.gather(*asked)
    assert [(str(APP), None), (str(APP), ANN)] == runtime.pulls


async def test_a_request_during_a_cancellation_gets_its_own_pull(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    first = begin(pulls)
    await settle()
    first.cancel()
    second = begin(pulls)
    await settle()
    runtime.free.set()
    assert DIGEST == (await second).digest
    assert 2 == len(runtime.pulls)


async def test_a_time_limit_ends_one_request_and_not_the_shared_pull(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.free.clear()
    patient = begin(pulls)
    with pytest.raises(PullTimeoutError, match=r"0\.01 s"):
        await pulls.pull(APP, timeout=0.01)
    assert 1 == runtime.running
    runtime.free.set()
    await patient


async def test_another_digest_than_the_requested_one_is_an_error(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.registry[str(PINNED_APP)] = "sha256:" + "b" * 64
    with pytest.raises(PullDigestError):
        await pulls.pull(PINNED_APP, timeout=1)


async def test_an_honoured_pin_is_reported(pulls: Pulls) -> None:
    assert pulls.pins_honoured is None
    assert (await pulls.pull(APP, timeout=1, pin=True)).pinned
    assert pulls.pins_honoured is True


async def test_an_ignored_pin_is_reported_and_waited_for_once(runtime: FakeRuntime, pulls: Pulls) -> None:
    runtime.honours_pins = False
    loop = asyncio.get_running_loop()
    assert not (await pulls.pull(APP, timeout=5, pin=True)).pinned
    assert pulls.pins_honoured is False
    begun = loop.time()
    assert not (await pulls.pull(APP, timeout=5, pin=True)).pinned
    assert loop.time() - begun < 0.5


IMAGE = "r.example:5000/team/app:1"
PULL = f'failed to pull and unpack image "{IMAGE}": '
RESOLVE = PULL + f'failed to resolve reference "{IMAGE}": '
COMMIT = "failed commit on ref: unexpected commit digest sha256:1, expected sha256:2: failed precondition"
RESOLVE_2 = PULL + "failed to resolve image: "


CAUSES: dict[type[errors.HelperError], list[str]] = {
    errors.NoSuchImageError: [RESOLVE + "unexpected status code [manifests 1]: 404 Not Found"],
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
