"""An unusable kubeconfig raises an error of one line that says what is wrong."""

from pathlib import Path

import pytest

from pantala_operator.adapters import kubernetes
from pantala_operator.errors import ClusterError


@pytest.mark.parametrize(
    "content",
    ["", "junk", "junk: [", "[]", "current-context: a", "current-context: a\ncontexts: 5", "\x00"],
)
async def test_a_file_that_is_not_a_valid_kubeconfig(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(ClusterError, match="set --kubeconfig") as caught:
        await kubernetes.connect(str(file))
    assert "\n" not in str(caught.value)


async def test_a_missing_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"the kubeconfig .*missing does not exist"):
        await kubernetes.connect(str(tmp_path / "missing"))
