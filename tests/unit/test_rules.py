"""docs/security.md has a row for each known threat and fault, and each test that it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IDS = [
    *(f"A{number}" for number in range(1, 21)), *(f"T{number}" for number in range(1, 19)),
    *(f"F{number}" for number in range(1, 23)), *("C1", "C2"), *(f"H{number}" for number in range(1, 11)),
    *(f"M{number}" for number in range(1, 10)), "low",
]  # fmt: skip
"""All ids of the threat model and of the audits."""
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs/security.md").read_text().splitlines()
    if re.match(r"\| (?:[ATFCHM]\d+|low) \|", line)
]
NAMES = [
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async def|def|class) (\w+)|^(Test\w+) = ", path.read_text(), re.MULTILINE)
]
FUNCTIONS = {one or other for one, other in NAMES}


PACKAGES = {
    name: ROOT / name / f"pantala_{name}" for name in ("operator", "supernode", "peer", "pieces", "protocol", "process")
}


def places(where: str) -> list[Path]:
    """The rooms and modules that a cell names. Each follows the name of its process."""
    found, process = [], ""
    for name, room in re.findall(r"\b([a-z]+) (?=`)|`([^`]+)`", where):
        process = name or process
        if room and process in PACKAGES:
            found.append(PACKAGES[process] / room)
    return found


def test_each_id_has_one_row() -> None:
    assert IDS == [row[0] for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_is_complete_and_its_tests_exist(row: list[str]) -> None:
    _, rule, where, tests, state = row
    assert rule.endswith(".")
    assert where
    assert re.fullmatch(r"holds|partly: \w.{20,}", state)
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    assert [] == [name for name in places(where) if not (name.is_dir() or name.with_suffix(".py").is_file())]
    for name in named:
        file, _, function = name.rpartition("::")
        if name.endswith("*"):
            assert any(each.startswith(name.removesuffix("*")) for each in FUNCTIONS), name
        else:
            text = (ROOT / "tests" / file).read_text()
            assert re.search(rf"^(async def|def|class) {function}\b|^{function} = ", text, re.MULTILINE), name
