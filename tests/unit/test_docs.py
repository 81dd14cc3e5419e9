"""Links in the documentation lead somewhere, and docs/architecture.md names rooms, modules and files that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import prose

ROOT = prose.ROOT
PAGES = prose.find([ROOT / name for name in prose.PAGES], ".md")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
PACKAGES = {
    "operator": ROOT / "operator/pantala_operator",
    "supernode": ROOT / "supernode/pantala_supernode",
    "peer": ROOT / "peer/pantala_peer",
    "runtime helper": ROOT / "peer/pantala_runtime",
}

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_ROOM = re.compile(rf"(?i:\b({'|'.join(PACKAGES)}))(?=\*\*| `)|`([a-z_]+(?:/[a-z_]+)*)/?`")
_FILE = re.compile(r"`(\w+/[\w./*-]+\.(?:py|md|yaml))`")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rooms() -> Iterator[tuple[str, str]]:
    """Each room and module in the tables, with the process that was named last."""
    _, text = ARCHITECTURE.split("## Rooms")
    text, rest = text.split("## Conversations")
    _, changes = rest.split("## To change something")
    process = ""
    for line in (text + changes).splitlines():
        if line.startswith(("| ", "**")):
            for named, room in _ROOM.findall(line):
                process = named.lower() or process
                if room:
                    yield process, room


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for name, anchor in _LINK.findall(_CODE.sub("", page.read_text())):
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def test_the_architecture_names_rooms_and_modules_that_exist() -> None:
    found = list(rooms())
    assert 70 < len(found)
    paths = [(name, folder / name) for name, folder in ((name, PACKAGES[process]) for process, name in found)]
    assert [] == [name for name, path in paths if not (path.is_dir() or path.with_suffix(".py").is_file())]


def test_the_architecture_names_files_that_exist() -> None:
    named = _FILE.findall(ARCHITECTURE)
    assert 5 < len(named)
    assert [] == [name for name in named if not any(ROOT.glob(name))]
