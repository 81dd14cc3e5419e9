"""With default values, an observer between the nodes sees no secret and no byte of a file."""

from ipaddress import IPv4Network

import pytest

from testbed.cluster import layout
from testbed.origin import Generated, Origin
from tests.e2e.case import MIB, Case
from tests.support.capture import PacketCapture

_SIZE = 24 * MIB


@pytest.mark.skipif(layout.IPV6, reason="the capture reads IPv4 packets")
@pytest.mark.usefixtures("cluster")
def test_a17_nothing_is_in_clear_between_pods(case: Case, origin: Origin) -> None:
    body = Generated(_SIZE, seed=17)
    origin.serve("/secret", body)
    with PacketCapture(interface="", network=IPv4Network(layout.POD_NETWORK)) as capture:
        case.apply(case.task("secret", origin.url("/secret")))
        case.ready("task/secret")
    case.assert_published("secret", body)
    assert 2 * _SIZE < capture.size
    for secret in (b"HTTP/1.1", b"Bearer ey", b"X-Pantala-Ticket", b"secret", b"generation"):
        assert not capture.contains(secret), secret
    for first in range(0, _SIZE - 24, 999_983):
        assert not capture.contains(body.read(first, 24)), first
