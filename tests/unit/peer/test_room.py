"""What nobody wanted for longest goes first, and nothing that is at work or must stay."""

from pantala_peer.tasks.room import MAX_LIMIT, BlobRoom, usual_limit


def test_there_is_no_surplus_below_the_limit_and_none_without_one() -> None:
    assert [] == BlobRoom(10).surplus({"a": 5, "b": 5}, lambda _: True)
    assert [] == BlobRoom().surplus({"a": 1 << 60}, lambda _: True)


def test_what_was_not_wanted_for_longest_goes_first_until_it_fits() -> None:
    room = BlobRoom(10)
    for name in ("a", "b", "c", "a"):
        room.demand(name, demanded=False)
    assert ["b"] == room.surplus({"a": 5, "b": 5, "c": 5}, lambda _: True)
    assert ["b", "c"] == room.surplus({"a": 5, "b": 5, "c": 5}, lambda _: True, free=6)


def test_what_an_earlier_process_left_goes_before_what_was_wanted() -> None:
    room = BlobRoom(5)
    room.demand("a", demanded=False)
    assert ["z"] == room.surplus({"a": 5, "z": 5}, lambda _: True)
    room.forget_others([])
    assert ["a"] == room.surplus({"a": 5, "z": 5}, lambda _: True)


def test_what_is_spared_or_at_work_stays_even_if_it_is_too_much() -> None:
    room = BlobRoom(1)
    room.demand("a", demanded=True)
    assert ["c"] == room.surplus({"a": 5, "b": 5, "c": 5}, lambda name: name != "b")


def test_nothing_goes_for_what_would_not_fit_all_the_same() -> None:
    room = BlobRoom(10)
    room.order({"a"})
    assert [] == room.surplus({"a": 4, "b": 5}, lambda _: True, free=6)
    assert ["b"] == room.surplus({"a": 4, "b": 5}, lambda _: True, free=5)
    assert ["b"] == room.surplus({"a": 9, "b": 5}, lambda _: True, free=6), "it takes too much anyway"


def test_the_usual_limit_is_a_tenth_of_a_small_disk() -> None:
    assert 10 == usual_limit(100)
    assert MAX_LIMIT == usual_limit(1 << 50)
