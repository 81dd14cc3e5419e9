"""The blob that was not used for longest is dropped first. Blobs that are incomplete or needed stay."""

from pantala_peer.tasks.room import MAX_LIMIT, BlobRoom, usual_limit


def test_there_is_a_surplus_only_above_a_limit() -> None:
    assert [] == BlobRoom(10).surplus({"a": 5, "b": 5}, lambda _: True)
    assert [] == BlobRoom().surplus({"a": 1 << 60}, lambda _: True)


def test_the_blobs_that_were_not_used_for_longest_are_dropped_until_the_rest_fits() -> None:
    room = BlobRoom(10)
    for name in ("a", "b", "c", "a"):
        room.demand(name, demanded=False)
    assert ["b"] == room.surplus({"a": 5, "b": 5, "c": 5}, lambda _: True)
    assert ["b", "c"] == room.surplus({"a": 5, "b": 5, "c": 5}, lambda _: True, free=6)


def test_blobs_of_an_earlier_process_are_dropped_before_used_ones() -> None:
    room = BlobRoom(5)
    room.demand("a", demanded=False)
    assert ["z"] == room.surplus({"a": 5, "z": 5}, lambda _: True)
    room.forget_others([])
    assert ["a"] == room.surplus({"a": 5, "z": 5}, lambda _: True)


def test_demanded_and_incomplete_blobs_stay_even_above_the_limit() -> None:
    room = BlobRoom(1)
    room.demand("a", demanded=True)
    assert ["c"] == room.surplus({"a": 5, "b": 5, "c": 5}, lambda name: name != "b")


def test_no_blob_is_dropped_if_that_cannot_free_enough() -> None:
    room = BlobRoom(10)
    room.order({"a"})
    assert [] == room.surplus({"a": 4, "b": 5}, lambda _: True, free=6)
    assert ["b"] == room.surplus({"a": 4, "b": 5}, lambda _: True, free=5)
    assert ["b"] == room.surplus({"a": 9, "b": 5}, lambda _: True, free=6), "it takes too much anyway"


def test_the_usual_limit_is_a_tenth_of_a_small_disk() -> None:
    assert 10 == usual_limit(100)
    assert MAX_LIMIT == usual_limit(1 << 50)
