"""A kubeconfig that cannot be used ends in one line that names it or says what is wrong, never in a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantala_operator.adapters import kubernetes
from pantala_operator.errors import ClusterError


@pytest.mark.parametrize(
    "content",
    ["", "junk", "junk: [", "[]", "current-context: a", "current-context: a\ncontexts: 5", "\x00"],
)
async def test_what_is_no_kubeconfig(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(ClusterError, match="set --kubeconfig") as caught:
        await kubernetes.connect(str(file))
    assert "\n" not in str(caught.value)


async def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"there is no kubeconfig .*missing"):
        await kubernetes.connect(str(tmp_path / "missing"))
