"""Names to draw from."""

import random

from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.swarm.pool import Pool

names = st.sampled_from([f"n{number}" for number in range(8)])


@given(st.lists(st.tuples(st.booleans(), names)))
def test_a_pool_is_a_set(steps: list[tuple[bool, str]]) -> None:
    pool, model = Pool(), set[str]()
    for puts_in, name in steps:
        if puts_in:
            pool.add(name)
            model.add(name)
        else:
            pool.discard(name)
            model.discard(name)
        assert (len(model), sorted(model), name in model) == (len(pool), sorted(pool), name in pool)


def test_few_names_are_all_drawn_and_of_many_a_sample() -> None:
    pool, chance = Pool(), random.Random(1)
    assert [] == pool.draw(chance, 4)
    for number in range(4):
        pool.add(f"n{number}")
    drawn = [pool.draw(chance, 4) for _ in range(50)]
    assert {4} == {len({*names}) for names in drawn}
    assert 1 < len({names[0] for names in drawn})
    pool.add("n4")
    assert {4} == {len(pool.draw(chance, 4)) for _ in range(50)}
