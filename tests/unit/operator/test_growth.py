"""The growth of volumes: sizes, refusals, and that nothing changes unless everything may change."""

from typing import Any

import pytest

from pantala_operator.errors import ClusterError, ClusterForbiddenError, ClusterNotFoundError
from pantala_operator.hooks.growth import Growth, grow, main, plan

pytestmark = pytest.mark.virtual_time

NAME = "pantala-supernode"


def claim(name: str, size: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}},
    }


def stateful_set(size: str | None = "1Gi") -> dict[str, Any]:
    templates = [] if size is None else [claim("data", size)]
    selector = {"matchLabels": {"app": "pantala", "component": "supernode"}}
    return {"metadata": {"name": NAME}, "spec": {"selector": selector, "volumeClaimTemplates": templates}}


class Answers:
    """An API server with one StatefulSet and its claims. It records all changes."""

    def __init__(self, found: dict[str, Any] | None, *claims: dict[str, Any], refuse: str = "", stays: int = 1) -> None:
        self.found, self.claims, self.refuse, self.stays = found, claims, refuse, stays
        self.late_refuse = ""
        """The claim that is refused after its trial has succeeded."""
        self.changes: list[tuple[str, str]] = []
        self.trials: list[str] = []

    async def __call__(self, method: str, path: str, **more: Any) -> Any:
        name = path.rpartition("/")[2]
        if method == "get" and name == "persistentvolumeclaims":
            assert "app=pantala,component=supernode" == more["label_selector"]
            return {"items": list(self.claims)}
        if method == "get":
            if self.found is None or (("delete", NAME) in self.changes and self._ended()):
                raise ClusterNotFoundError("not found")
            return self.found
        if method == "patch" and name in (self.refuse, "" if "dry_run" in more else self.late_refuse):
            raise ClusterForbiddenError("403: only dynamically provisioned pvc can be resized")
        if more.get("dry_run") == "All":
            self.trials.append(name)
        else:
            self.changes.append((method, name))
        return {}

    def _ended(self) -> bool:
        self.stays -= 1
        return self.stays < 0


async def run(answers: Answers, size: str = "2Gi") -> str:
    return await grow(answers, "ns", NAME, "data", size)


def test_only_the_claims_of_the_statefulset_that_are_too_small_grow() -> None:
    claims = [
        claim(f"data-{NAME}-0", "1Gi"),
        claim(f"data-{NAME}-1", "2048Mi"),
        claim(f"data-{NAME}-10", "3Gi"),
        claim(f"data-{NAME}-x", "1Gi"),
        claim("other-0", "1Gi"),
    ]
    assert Growth((f"data-{NAME}-0",), True) == plan(stateful_set("1Gi"), claims, "data", "2Gi")
    assert Growth((), False) == plan(stateful_set("2048Mi"), claims[1:3], "data", "2Gi")
    assert Growth((), True) == plan(stateful_set("2Gi"), claims, "data", "1Gi"), "a rollback to a smaller size"
    assert Growth((), False) == plan(stateful_set(None), [], "data", "1Gi")


async def test_the_claims_grow_and_then_the_statefulset_goes_without_them() -> None:
    answers = Answers(stateful_set(), claim(f"data-{NAME}-0", "1Gi"), claim(f"data-{NAME}-1", "1Gi"), stays=3)
    said = await run(answers)
    claims = [f"data-{NAME}-0", f"data-{NAME}-1"]
    assert claims == answers.trials
    assert [*(("patch", name) for name in claims), ("delete", NAME)] == answers.changes
    assert ", ".join(claims) in said


async def test_if_one_claim_may_not_grow_nothing_changes_and_the_error_names_the_class() -> None:
    refused = f"data-{NAME}-1"
    answers = Answers(stateful_set(), claim(f"data-{NAME}-0", "1Gi"), claim(refused, "1Gi"), refuse=refused)
    with pytest.raises(ClusterForbiddenError) as error:
        await run(answers)
    assert [] == answers.changes
    for words in (
        refused,
        "StorageClass fast",
        "allowVolumeExpansion: true",
        "supernode.persistence.size at 1Gi",
        "Nothing was",
    ):
        assert words in str(error.value)


async def test_a_refusal_after_the_trials_does_not_say_that_nothing_changed() -> None:
    answers = Answers(stateful_set(), claim(f"data-{NAME}-0", "1Gi"), claim(f"data-{NAME}-1", "1Gi"))
    answers.late_refuse = f"data-{NAME}-1"
    with pytest.raises(ClusterForbiddenError) as error:
        await run(answers)
    assert [("patch", f"data-{NAME}-0")] == answers.changes
    assert "Nothing was changed" not in str(error.value)


async def test_equal_sizes_and_a_missing_statefulset_change_nothing() -> None:
    for answers in (Answers(stateful_set("2Gi"), claim(f"data-{NAME}-0", "2Gi")), Answers(None)):
        assert "nothing needs to grow" in await run(answers)
        assert [] == answers.changes


async def test_a_statefulset_that_does_not_go_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantala_operator.hooks.growth._GONE_SECONDS", 0.0)
    with pytest.raises(ClusterError, match="still exists"):
        await run(Answers(stateful_set(), stays=10_000))


@pytest.mark.parametrize("given", [["--statefulset=x", "--size=1Gi"], ["--statefulset=a/b", "--size=huge"]])
def test_wrong_flags_end_with_2(given: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(given)
    assert 2 == end.value.code
