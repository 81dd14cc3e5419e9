"""A client may read the digests of a manifest that it was given, for a while; a pull's password works for one pull."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror import permissions
from pantala_peer.mirror.permissions import SECONDS, DigestInfo, PullGrants, ReadPermissions, is_ours

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
