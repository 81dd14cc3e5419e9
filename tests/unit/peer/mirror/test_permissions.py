"""A digest is served to whom the registry gave a manifest that names it, and for a while."""

from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror import permissions
from pantala_peer.mirror.permissions import SECONDS, Permissions, Reach

KEY = b"k" * 32
REACH = Reach(7)


def granted(repository: str = "r/a", authorization: str = "", digest: str = "d") -> Permissions:
    made = Permissions(KEY)
    made.grant(repository, authorization, {digest: REACH}, 0.0)
    return made


names = st.text(max_size=6)


@given(given_to=st.tuples(names, names, names), asks=st.tuples(names, names, names))
def test_repository_client_and_digest_must_all_be_the_same(
    given_to: tuple[str, str, str], asks: tuple[str, str, str]
) -> None:
    found = granted(*given_to).find(*asks, 1.0)
    assert (REACH if given_to == asks else None) == found


def test_the_public_has_nothing_that_one_client_was_given() -> None:
    assert granted(authorization="Bearer t").find("r/a", "", "d", 1.0) is None
    assert granted(authorization="").find("r/a", "Bearer t", "d", 1.0) is None


def test_it_holds_as_long_as_it_is_used_but_not_for_ever() -> None:
    made = granted()
    now = 0.0
    while made.find("r/a", "", "d", now) is not None:
        now += SECONDS
    assert permissions._LONGEST < now <= permissions._LONGEST + SECONDS
    assert granted().find("r/a", "", "d", SECONDS + 0.1) is None


def test_no_secret_is_kept() -> None:
    made = granted(authorization="Basic c2VjcmV0")
    assert "c2VjcmV0" not in repr(vars(made))
    assert b"c2VjcmV0" not in b"".join(made._granted)


def test_what_is_remembered_is_bounded() -> None:
    made = Permissions(KEY)
    for number in range(11):
        made.grant("r", "", {f"{number}/{index}": REACH for index in range(permissions._LIMIT // 10)}, 0.0)
    assert permissions._LIMIT == len(made._granted)
    assert made.find("r", "", "0/0", 0.0) is None
    assert made.find("r", "", "10/0", 0.0) == REACH
