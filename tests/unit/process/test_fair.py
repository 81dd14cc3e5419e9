"""The queue that divides a resource among tenants and their clients."""

import random
from collections import Counter

import pytest

from pantala_process.fair import Claim, FairQueue


def served(queue: FairQueue[tuple[str, int]], amount: int) -> Counter[str]:
    """How much of ``amount`` each name gets, while each item that was taken is put again."""
    got: Counter[str] = Counter()
    while sum(got.values()) < amount:
        name, cost = queue.pop()
        got[name] += cost
        queue.put((name, cost), CLAIMS[name], cost)
    return got


CLAIMS = {
    "three": Claim("a", 3.0, "one"),
    "one": Claim("b", 1.0, "one"),
    "first": Claim("c", 1.0, "first"),
    "second": Claim("c", 1.0, "second"),
    "urgent": Claim("c", 1.0, "third", priority=5),
}


@pytest.mark.parametrize("seed", range(5))
def test_h7_tenants_get_their_shares_by_cost(seed: int) -> None:
    chance, queue = random.Random(seed), FairQueue[tuple[str, int]]()
    for name, waiting in (("three", 2), ("one", 40)):
        for _ in range(waiting):
            cost = chance.randint(1, 100)
            queue.put((name, cost), CLAIMS[name], cost)
    got = served(queue, 100_000)
    assert 3.0 == pytest.approx(got["three"] / got["one"], rel=0.02)


def test_h7_a_client_with_many_items_gets_no_more_than_another_client_of_its_tenant() -> None:
    queue = FairQueue[tuple[str, int]]()
    for _ in range(100):
        queue.put(("first", 10), CLAIMS["first"], 10)
    queue.put(("second", 10), CLAIMS["second"], 10)
    got = served(queue, 10_000)
    assert 1.0 == pytest.approx(got["first"] / got["second"], rel=0.02)


def test_a_higher_priority_is_first_within_its_tenant_only() -> None:
    queue = FairQueue[tuple[str, int]]()
    for name in ("first", "second", "urgent", "one", "one", "one"):
        queue.put((name, 10), CLAIMS[name], 10)
    order = [queue.pop()[0] for _ in range(6)]
    assert ["urgent", "first", "second"] == [name for name in order if name != "one"]
    assert 2 == order[:4].count("one")


def test_a_tenant_that_was_away_gets_no_credit_and_one_that_returns_at_once_loses_nothing() -> None:
    queue = FairQueue[tuple[str, int]](slack=100.0)
    for _ in range(50):
        queue.put(("one", 100), CLAIMS["one"], 100)
    for _ in range(40):
        queue.pop()
    queue.put(("first", 100), CLAIMS["first"], 100)
    queue.put(("first", 100), CLAIMS["first"], 100)
    assert ["first", "first", "one"] == sorted(queue.pop()[0] for _ in range(3))


def test_a_discarded_item_is_not_taken() -> None:
    queue = FairQueue[tuple[str, int]]()
    items = [("first", number) for number in range(3)]
    for item in items:
        queue.put(item, CLAIMS["first"], 1)
    queue.discard(items[1], CLAIMS["first"])
    queue.discard(("first", 9), CLAIMS["first"])
    assert (2, [items[0], items[2]]) == (len(queue), [queue.pop(), queue.pop()])
    with pytest.raises(IndexError):
        queue.pop()


def test_flows_and_tenants_without_influence_are_forgotten() -> None:
    queue = FairQueue[int]()
    for number in range(5000):
        queue.put(number, Claim(f"tenant-{number % 1000}", client=str(number)), 1.0)
        queue.pop()
    assert len(queue._tenants.flows) < 600
