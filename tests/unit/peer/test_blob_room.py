"""The room for blobs: the ones used longest ago are dropped."""

import pytest

from pantala_peer.tasks.room import MAX_LIMIT, BlobRoom, usual_limit


@pytest.mark.parametrize(
    ("limit", "sizes", "free", "expected"),
    [
        (10, {"a": 5, "b": 5}, 0, []),
        (None, {"a": 1 << 60}, 0, []),
        (10, {"a": 5, "b": 5, "c": 5}, 0, ["b"]),
        (10, {"a": 5, "b": 5, "c": 5}, 6, ["b", "c"]),
        (10, {"a": 5, "earlier process": 5, "b": 5}, 0, ["earlier process"]),
        (1, {"incomplete": 5, "demanded": 5, "c": 5}, 0, ["c"]),
        (10, {"ordered": 4, "b": 5}, 6, []),
        (10, {"ordered": 4, "b": 5}, 5, ["b"]),
        (10, {"ordered": 9, "b": 5}, 6, ["b"]),
    ],
)
def test_the_blobs_used_longest_ago_are_dropped(
    limit: int | None, sizes: dict[str, int], free: int, expected: list[str]
) -> None:
    """Ordered, demanded and incomplete blobs stay. No blob is dropped if that cannot free enough."""
    room = BlobRoom(limit)
    room.order({"ordered"})
    for name in ("a", "b", "c", "a"):
        room.demand(name, demanded=False)
    room.demand("demanded", demanded=True)
    assert expected == room.surplus(sizes, lambda name: name != "incomplete", free=free)


def test_the_use_of_a_removed_blob_is_forgotten() -> None:
    room = BlobRoom(5)
    room.demand("a", demanded=False)
    room.forget_others([])
    assert ["a"] == room.surplus({"a": 5, "z": 5}, lambda _: True)


def test_the_usual_limit_is_a_tenth_of_a_small_disk() -> None:
    assert 10 == usual_limit(100)
    assert MAX_LIMIT == usual_limit(1 << 50)
