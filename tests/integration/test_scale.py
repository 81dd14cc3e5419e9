"""A smaller form of ``python -m bench scale``: the real operator and supernode with Tasks for a thousand nodes."""

from pathlib import Path

import pytest

from bench.scale import load


@pytest.mark.timeout(120)
def test_f19_tasks_for_a_thousand_nodes_are_stated_and_each_status_is_right(tmp_path: Path) -> None:
    """1,500 Tasks for 1,000 nodes were refused with 413. The status counts the nodes that have the file."""
    values = load.measure(tmp_path, tasks=250, nodes=1000, peers=2)
    assert values["stated_s"] < 20
    assert values["operator_mib"] < 200
    assert values["supernode_mib"] < 300
