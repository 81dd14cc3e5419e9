"""What is remembered is bounded, and forgotten in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.registry.cache import Cache
from pantala_supernode.registry.permissions import SECONDS, RegistryPermissions

steps = st.lists(
    st.tuples(st.sampled_from("gpd"), st.integers(0, 5), st.integers(0, 6), st.integers(0, 4)), max_size=40
)


@given(steps)
def test_a_cache_gives_what_was_put_last_until_then_and_stays_small(
    script: list[tuple[str, int, int, int]],
) -> None:
    cache: Cache[int, int] = Cache(10, lambda value: value)
    model: dict[int, tuple[int, int]] = {}
    for now, (what, key, value, ttl) in enumerate(script):
        if what == "p":
            cache.put(key, value, now + ttl)
            model[key] = (value, now + ttl)
        elif what == "d":
            cache.drop(key)
            model.pop(key, None)
        else:
            got = cache.get(key, now)
            value, until = model.get(key, (0, -1))
            assert got is None or (got == value and now < until)
        assert 0 <= cache.weight <= 10


def test_what_was_not_asked_for_longest_goes_first() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1, 9)
    cache.put("b", 2, 9)
    assert cache.get("a", 0) == 1
    cache.put("c", 3, 9)
    assert [1, None, 3] == [cache.get(key, 0) for key in "abc"]


def test_what_is_too_heavy_is_not_held_and_replaces_nothing_else() -> None:
    cache: Cache[str, bytes] = Cache(3, len)
    cache.put("a", b"aa", 9)
    cache.put("b", b"bbbb", 9)
    assert [b"aa", None] == [cache.get(key, 0) for key in "ab"]


def test_a_permission_is_for_one_repository_one_header_and_some_minutes() -> None:
    permissions = RegistryPermissions(b"k" * 32)
    permissions.allow("a.b/x", "Bearer one", 100.0)
    assert permissions.allows("a.b/x", "Bearer one", 100.0 + SECONDS - 1)
    for repository, header in [
        ("a.b/y", "Bearer one"),
        ("a.b/x", "Bearer two"),
        ("a.b/x", ""),
        ("a.b/xBearer", " one"),
    ]:
        assert not permissions.allows(repository, header, 101.0)
    assert not permissions.allows("a.b/x", "Bearer one", 100.0 + SECONDS)


def test_what_everybody_may_anybody_may() -> None:
    permissions = RegistryPermissions(b"k" * 32)
    permissions.allow("a.b/x", "", 0.0)
    assert permissions.allows("a.b/x", "Bearer anything", 1.0)


def test_permissions_hold_no_header() -> None:
    permissions = RegistryPermissions(b"k" * 32)
    permissions.allow("a.b/x", "Bearer secret", 0.0)
    assert "secret" not in repr(vars(permissions._allowed))
