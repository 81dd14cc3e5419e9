"""A password made for one pull is good for its repository while the pull lasts, and for nothing else."""

import itertools

from pantala_peer.mirror.grants import Grants, is_ours


def made() -> Grants:
    numbers = itertools.count(1)
    return Grants(lambda: f"password-{next(numbers)}")


def test_it_is_good_for_its_repository_while_the_pull_lasts() -> None:
    grants = made()
    assert not grants.awaits("r/a")
    with grants.open("ns/a", "r/a") as grant:
        assert grants.awaits("r/a")
        assert not grants.awaits("r/b")
        assert grant is grants.find("r/a", grant.authorization)
        assert grants.find("r/b", grant.authorization) is None
        assert grants.find("r/a", "") is None
    assert not grants.awaits("r/a")
    assert grants.find("r/a", grant.authorization) is None


def test_pulls_of_one_repository_are_told_apart() -> None:
    grants = made()
    with grants.open("ns/a", "r/a") as first, grants.open("ns/b", "r/a") as second:
        assert first is grants.find("r/a", first.authorization)
        assert second is grants.find("r/a", second.authorization)
    assert "password" not in f"{first!r}"


def test_it_is_known_for_ours_when_it_is_over() -> None:
    grants = made()
    with grants.open("ns/a", "r/a") as grant:
        pass
    assert is_ours(grant.authorization)
    for other in ("", "Bearer x", "Basic !", "Basic YW5uOng=", "Basic cGFudGFsYQ=="):
        assert not is_ours(other)
