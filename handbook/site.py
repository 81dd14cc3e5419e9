"""A hook of mkdocs: the site also has the pages at the root of the project, and the samples.

mkdocs imports this file from its own environment, so it imports no package of the project.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "SECURITY.md": "project/security-policy.md",
}
"""Pages of the site by their files outside of ``docs/``."""
SAMPLES = "reference/samples.md"
DECISIONS = "adr/index.md"

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: Any, **_: Any) -> None:
    """Add the pages that are not in ``docs/``."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    files.append(File.generated(config, SAMPLES, content=samples()))
    files.append(File.generated(config, DECISIONS, content=decisions()))


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links between files of the project into links between pages of the site."""
    here = page.file.src_uri
    parts = _CODE.split(markdown)  # every second part is code
    parts[::2] = [_LINK.sub(lambda link: target(here, link[1]) + (link[2] or ""), part) for part in parts[::2]]
    # In code in a table, GitHub needs a backslash before a bar. The site would show this backslash.
    parts[1::2] = [part.replace(r"\|", "|") if not part.startswith("```") else part for part in parts[1::2]]
    return "".join(parts)


def target(here: str, link: str) -> str:
    """The link on the page ``here`` for a link in its file. A dead link stays, and mkdocs reports it."""
    source = next((name for name, page in PAGES.items() if page == here), f"docs/{here}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if path.startswith("crds/samples"):
        page = SAMPLES
    elif path.startswith("docs/"):
        page = path.removeprefix("docs/") + ("/index.md" if (ROOT / path).is_dir() else "")
    elif path in PAGES:
        page = PAGES[path]
    else:
        return link
    return posixpath.relpath(page, posixpath.dirname(here) or ".")


def samples() -> str:
    """A page with all samples."""
    text = "# Samples\n\nThese files are in `crds/samples`. Use your own names, URLs and credentials.\n"
    for path in sorted((ROOT / "crds" / "samples").glob("*.yaml")):
        text += f"\n## {path.name}\n\n```yaml\n{path.read_text().rstrip()}\n```\n"
    return text


def decisions() -> str:
    """A page with the titles of all decision records."""
    text = "# Decisions\n\nEach record has the context, the decision, its consequences and the alternatives.\n\n"
    for path in sorted((ROOT / "docs" / "adr").glob("0*.md")):
        title = path.read_text().splitlines()[0].removeprefix("# ")
        text += f"- [{title.replace('. ', ': ', 1)}]({path.name})\n"
    return text
