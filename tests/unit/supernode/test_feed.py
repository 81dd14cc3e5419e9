"""The feed of changes for the operator."""

from tests.unit.supernode.conftest import Bench, Wish


async def test_dropped_tasks_take_limited_memory(bench: Bench, wanted: Wish) -> None:
    bench.state(wanted("kept"))
    bench.feed.touch_task(wanted().task_id)
    for number in range(100_000):
        bench.feed.touch_dropped(str(number))
    assert len(bench.feed._touched) <= 21_000
    late = await bench.feed.changes(boot="boot", since=1, wait=0)
    assert (True, ["kept"], ()) == (late.full, [task.uid for task in late.tasks], late.gone)
    recent = await bench.feed.changes(boot="boot", since=late.version - 100, wait=0)
    assert (False, 100) == (recent.full, len(recent.gone))
