"""Permissions of clients, the readers of a blob, and the breaker of a slow repository."""

import itertools
import random
from contextlib import AbstractContextManager

from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror import permissions
from pantala_peer.mirror.deadlines import OPEN_SECONDS, RepositoryBreaker
from pantala_peer.mirror.demand import BlobDemand, BlobOrigin
from pantala_peer.mirror.permissions import SECONDS, DigestInfo, PullGrants, ReadPermissions, is_ours
from pantala_peer.mirror.request import RepositoryName
from pantala_peer.tasks.room import BlobRoom
from pantala_protocol import task_id
from pantala_protocol.sync import WantedBlob

KEY = b"k" * 32
INFO = DigestInfo(7)


def granted(repository: str = "r/a", authorization: str = "", digest: str = "d") -> ReadPermissions:
    made = ReadPermissions(KEY)
    made.grant(repository, authorization, {digest: INFO}, 0.0)
    return made


names = st.text(max_size=6)


@given(given_to=st.tuples(names, names, names), asks=st.tuples(names, names, names))
def test_repository_client_and_digest_must_all_be_the_same(
    given_to: tuple[str, str, str], asks: tuple[str, str, str]
) -> None:
    found = granted(*given_to).find(*asks, 1.0)
    assert (INFO if given_to == asks else None) == found


def test_a_used_permission_holds_but_not_for_ever() -> None:
    made = granted()
    now = 0.0
    while made.find("r/a", "", "d", now) is not None:
        now += SECONDS
    assert permissions._MAX_SECONDS < now <= permissions._MAX_SECONDS + SECONDS
    assert granted().find("r/a", "", "d", SECONDS + 0.1) is None


def test_no_secret_is_kept() -> None:
    made = granted(authorization="Basic c2VjcmV0")
    assert "c2VjcmV0" not in repr(vars(made))
    assert b"c2VjcmV0" not in b"".join(made._permissions)


def test_the_number_of_permissions_is_bounded() -> None:
    made = ReadPermissions(KEY)
    for number in range(11):
        made.grant("r", "", {f"{number}/{index}": INFO for index in range(permissions._MAX_PERMISSIONS // 10)}, 0.0)
    assert permissions._MAX_PERMISSIONS == len(made._permissions)
    assert made.find("r", "", "0/0", 0.0) is None
    assert made.find("r", "", "10/0", 0.0) == INFO


# Pulls by order


def new_grants() -> PullGrants:
    numbers = itertools.count(1)
    return PullGrants(lambda: f"password-{next(numbers)}")


def test_a_password_is_valid_for_its_repository_while_the_pull_runs() -> None:
    grants = new_grants()
    assert not grants.awaits("r/a")
    with grants.open("ns/a", "r/a") as grant:
        assert grants.awaits("r/a")
        assert not grants.awaits("r/b")
        assert grant is grants.find("r/a", grant.authorization)
        assert grants.find("r/b", grant.authorization) is None
        assert grants.find("r/a", "") is None
    assert not grants.awaits("r/a")
    assert grants.find("r/a", grant.authorization) is None


def test_pulls_of_one_repository_have_their_own_passwords() -> None:
    grants = new_grants()
    with grants.open("ns/a", "r/a") as first, grants.open("ns/b", "r/a") as second:
        assert first is grants.find("r/a", first.authorization)
        assert second is grants.find("r/a", second.authorization)
    assert "password" not in f"{first!r}"


def test_a_password_is_recognised_after_its_pull() -> None:
    grants = new_grants()
    with grants.open("ns/a", "r/a") as grant:
        pass
    assert is_ours(grant.authorization)
    for other in ("", "Bearer x", "Basic !", "Basic YW5uOng=", "Basic cGFudGFsYQ=="):
        assert not is_ours(other)


def test_the_breaker_is_open_for_its_repository_and_time_only() -> None:
    breaker = RepositoryBreaker()
    assert not breaker.is_open("a", 0.0)
    breaker.trip("a", 100.0)
    assert breaker.is_open("a", 100.0)
    assert breaker.is_open("a", 100.0 + OPEN_SECONDS - 0.1)
    assert not breaker.is_open("b", 100.0)
    assert not breaker.is_open("a", 100.0 + OPEN_SECONDS)


def test_closed_breakers_are_forgotten() -> None:
    breaker = RepositoryBreaker(1.0)
    for number in range(1000):
        breaker.trip(str(number), float(number))
    assert len(breaker._until) < 3


D = "sha256:" + "0" * 64
NAME = task_id.of_blob(D)


class Reports(dict[str, WantedBlob]):
    def report(self, name: str, wanted: WantedBlob | None) -> None:
        if wanted is None:
            del self[name]
        else:
            self[name] = wanted


def origin(authorization: str = "", repository: str = "a") -> BlobOrigin:
    return BlobOrigin(RepositoryName("r", repository), 9, authorization)


def test_readers_of_one_blob_share_one_demand() -> None:
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    with demand.reader(D, origin("old"), 500) as first:
        assert WantedBlob("r", "a", D, 500, credential="old") == reports[NAME]
        with demand.reader(D, origin("new"), 100) as second:
            assert WantedBlob("r", "a", D, 100, credential="new") == reports[NAME]
            second.waits_at(700)
            assert 500 == reports[NAME].position
            first.stalled()
            assert 1 == reports[NAME].stalls
        assert WantedBlob("r", "a", D, 500, 1, "old") == reports[NAME]
        first.waits_at(600)
        assert WantedBlob("r", "a", D, 600, 0, "old") == reports[NAME], "the stall was of another byte"
    assert {} == reports


def test_an_order_counts_before_the_credentials_of_a_client() -> None:
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    ordered = BlobOrigin(RepositoryName("r", "b"), 9, "Basic never", order="ns/b")
    with demand.reader(D, ordered, 0), demand.reader(D, origin("new"), 0):
        assert WantedBlob("r", "b", D, order="ns/b") == reports[NAME]


def test_the_last_reader_ends_the_demand() -> None:
    rng = random.Random(1)
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    readers: list[AbstractContextManager[object]] = []
    for _ in range(200):
        if readers and rng.random() < 0.5:
            readers.pop(rng.randrange(len(readers))).__exit__(None, None, None)
        else:
            readers.append(demand.reader(D, origin(), 0))
            readers[-1].__enter__()
        assert bool(readers) is (NAME in reports)


def test_a_secret_is_not_shown() -> None:
    shown = WantedBlob("r", "a", D, credential="Basic c2VjcmV0")
    assert "c2VjcmV0" not in f"{shown!r} {shown} {shown.__rich_repr__()} {origin('Basic c2VjcmV0')!r}"
