"""Why a node gets no bytes: when a reason begins, and what ends it."""

import pytest

from pantala_protocol.reasons import Reason
from pantala_protocol.sync import PieceFailure
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.swarm.troubles import NodeTrouble, NodeTroubles

DISK = "cannot write pieces: No space left on device"


class Troubles(NodeTroubles):
    """The troubles of one node with one task."""

    def fail(self, kind: str, now: float, provider: str = "n2", reason: str = "", message: str = "") -> None:
        self.failed("n1", PieceFailure("t", 0, provider, kind, reason, message), provider, now=now)

    def reason(self, now: float = 20.0, latest: float = 0.0) -> NodeTrouble | None:
        return self.find("t", "n1", latest=latest, now=now)


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.mark.parametrize("reason", [Reason.NODE_DISK_FULL, Reason.NODE_DISK_FAILED, Reason.NODE_FILES_EXHAUSTED])
def test_a_node_reports_its_own_trouble_until_a_piece_arrives(troubles: Troubles, reason: Reason) -> None:
    troubles.fail("local", 10.0, reason=reason, message=DISK)
    troubles.fail("local", 15.0, reason=reason, message="another text")
    assert NodeTrouble(reason, DISK, 10.0) == troubles.reason(now=15.0)
    assert troubles.find("t", "n2", latest=0.0, now=20.0) is None
    troubles.succeeded("t", "n1", [])
    assert troubles.reason() is None


@pytest.mark.parametrize("reason", ["", "SourceSlow", "Nonsense"])
def test_a_node_cannot_report_any_other_reason(troubles: Troubles, reason: str) -> None:
    troubles.fail("local", 10.0, reason=reason, message=DISK)
    assert troubles.reason() is None


def test_another_trouble_of_the_node_replaces_the_first(troubles: Troubles) -> None:
    troubles.fail("local", 10.0, reason=Reason.NODE_DISK_FULL, message=DISK)
    troubles.fail("local", 15.0, reason=Reason.NODE_FILES_EXHAUSTED, message="no file handle")
    assert NodeTrouble(Reason.NODE_FILES_EXHAUSTED, "no file handle", 15.0) == troubles.reason()


@pytest.mark.parametrize(
    ("kind", "provider", "text"),
    [
        ("unreachable", SUPERNODE, "The supernode's piece server cannot be reached from node n1."),
        ("refused", "n2", "The provider n2 refuses the requests of node n1."),
    ],
)
def test_a_provider_that_fails_twice_is_named(troubles: Troubles, kind: str, provider: str, text: str) -> None:
    troubles.fail(kind, 10.0, provider)
    assert troubles.reason() is None
    troubles.fail(kind, 12.0, provider)
    assert NodeTrouble(Reason.PROVIDER_REFUSED, text, 10.0) == troubles.reason()
    assert troubles.reason(now=12.9) is None, "another provider may serve the node soon"
    assert troubles.reason(latest=18.0) is None, "other providers serve the node"
    troubles.succeeded("t", "n1", ["n3"])
    assert troubles.reason() is not None
    troubles.succeeded("t", "n1", [provider])
    assert troubles.reason() is None
    troubles.fail(kind, 20.0, provider)
    assert troubles.reason(now=30.0) is None, "the count starts again"


def test_the_provider_with_the_most_failures_is_named(troubles: Troubles) -> None:
    for provider in ("n2", "n3", "n3", "n2", "n3"):
        troubles.fail("refused", 10.0, provider)
    trouble = troubles.reason()
    assert trouble is not None
    assert "The provider n3 refuses the requests of node n1." == trouble.message


@pytest.mark.parametrize("kind", ["stalled", "missing", "corrupt"])
def test_other_failures_refuse_nothing(troubles: Troubles, kind: str) -> None:
    troubles.fail(kind, 10.0)
    troubles.fail(kind, 11.0)
    assert troubles.reason() is None


@pytest.mark.parametrize(("now", "known"), [(119.0, True), (121.0, False)])
def test_an_old_trouble_of_the_node_is_forgotten(troubles: Troubles, now: float, known: bool) -> None:
    troubles.fail("local", 100.0, reason=Reason.NODE_DISK_FULL, message=DISK)
    troubles.expire(now)
    assert known is (troubles.reason() is not None)


@pytest.mark.parametrize(("now", "known"), [(159.0, True), (161.0, False)])
def test_an_old_refusal_counts_no_more(troubles: Troubles, now: float, known: bool) -> None:
    troubles.fail("refused", 100.0)
    troubles.expire(now)
    troubles.fail("refused", now)
    assert known is (troubles.reason(now=now + 10.0) is not None)


def test_a_download_that_ends_takes_its_troubles_along(troubles: Troubles) -> None:
    troubles.fail("local", 100.0, reason=Reason.NODE_DISK_FULL, message=DISK)
    troubles.fail("refused", 100.0)
    troubles.forget("t", "n1")
    troubles.fail("refused", 100.0)
    assert troubles.reason(now=120.0) is None
