"""Counts words and sentences: the rules of plain English in CONTRIBUTING.md.

``python -m tests.support.prose [PATH ...]`` prints the counts per 10,000 words and each line that breaks a rule, for
packages and for pages apart. Without a path it reads everything that the rules cover. ``-v`` adds counted words.
"""

import argparse
import ast
import io
import re
import statistics
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protocol", "pieces", "process", "supernode", "peer", "operator", "cli")
PAGES = ("README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "docs")

FORBIDDEN = re.compile(r"\b(?:shall|anew|whoever)\b|\b(?:is|are|was|were|be) no (?!longer\b|more\b)\w+", re.IGNORECASE)
COUNTED = re.compile(r"\b(?:who|nobody|told|said|heard)\b", re.IGNORECASE)
ALLOWED = {"who": 10, "nobody": 2, "told, said, heard": 4}  # per 10,000 words
MEDIAN_SENTENCE = 16
LONGEST_SENTENCE = 35

_WORD = re.compile(r"[^\W\d_][\w'/.-]*")
_GENERATED = re.compile(r"_pb2\.pyi?$")
_QUOTED = re.compile(r"``[^`]*``|`[^`]*`")


@dataclass
class Passage:
    """A piece of prose, and the file and line where it starts."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line}"


@dataclass
class Count:
    """The counted words of some passages, and the lines that break a rule."""

    words: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    uses: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def rates(self) -> dict[str, float]:
        """Give the counted words per 10,000 words."""
        return {group: 10_000 * self.counted[group] / max(self.words, 1) for group in ALLOWED}

    def too_many(self) -> list[str]:
        """Give a line for each rate above the allowed one."""
        return [f"{g}: {r:.1f}, allowed {ALLOWED[g]}" for g, r in self.rates().items() if r > ALLOWED[g]]


def count(passages: list[Passage]) -> Count:
    total = Count()
    for passage in passages:
        text = _QUOTED.sub("code", passage.text)
        total.words += len(_WORD.findall(text))
        for match in FORBIDDEN.finditer(text):
            line = passage.line + text.count("\n", 0, match.start())
            total.broken.append(f"{Passage(passage.path, line, '')}: {match.group()!r}")
        for match in COUNTED.finditer(text):
            word = match.group().lower()
            total.counted[word if word in ALLOWED else "told, said, heard"] += 1
            line = passage.line + text.count("\n", 0, match.start())
            total.uses.append(f"{Passage(passage.path, line, '')}: {word!r} in {_context(text, match)!r}")
    return total


def _context(text: str, match: re.Match[str]) -> str:
    return " ".join(text[max(0, match.start() - 40) : match.end() + 40].split())


def python_passages(path: Path) -> list[Passage]:
    """Read the docstrings, the comments and the strings that contain a space."""
    source = path.read_text()
    passages = [
        Passage(path, node.lineno, node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip()
    ]
    comments = (t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT)
    return passages + [Passage(path, token.start[0], token.string.lstrip("# ")) for token in comments]


def page_passages(path: Path) -> list[Passage]:
    """Read a page's paragraphs, list items and table cells; a heading and a block of code are not prose."""
    passages: list[Passage] = []
    current: Passage | None = None
    fenced = False
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        line = raw.strip()
        if line.startswith("```"):
            fenced, current = not fenced, None
            continue
        code = fenced or (current is None and raw.startswith("    "))
        if code or not line or line.startswith(("#", "<")) or set(line) <= set("|-: "):
            current = None
            continue
        if line.startswith("|"):
            cells = (cell.strip() for cell in line.strip("|").split(" | "))
            passages.extend(Passage(path, number, cell) for cell in cells if cell)
            current = None
            continue
        item = re.match(r"(?:[-*]|\d+\.) +", line)
        if item or current is None:
            current = Passage(path, number, line[item.end() :] if item else line)
            passages.append(current)
        else:
            current.text += "\n" + line
    return passages


def sentences(passage: Passage) -> list[str]:
    """Split a paragraph: code counts as one word, a link as its text."""
    text = _QUOTED.sub("code", passage.text.replace("\n", " "))
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\b(?:e\.g|i\.e|etc)\.", "eg", text).replace("**", "").replace("*", "")
    return [s for s in re.split(r"(?<=[.!?])[)\"”]* +", text) if _WORD.search(s)]


def long_sentences(passages: list[Passage]) -> tuple[float, list[str]]:
    """Give the median number of words of a sentence, and the sentences that are too long."""
    lengths: list[int] = []
    too_long: list[str] = []
    for passage in passages:
        for sentence in sentences(passage):
            length = len(_WORD.findall(sentence))
            if length >= 3:  # a table's cell of one or two words is a name
                lengths.append(length)
            if length > LONGEST_SENTENCE:
                too_long.append(f"{passage}: {length} words: {sentence[:90]}...")
    return statistics.median(lengths) if lengths else 0, too_long


def find(paths: list[Path], suffix: str) -> list[Path]:
    """Find the files to read; generated code is left out."""
    found = [f for path in paths for f in (sorted(path.rglob(f"*{suffix}")) if path.is_dir() else [path])]
    return [f for f in found if f.suffix == suffix and f.exists() and not _GENERATED.search(f.name)]


def main() -> int:
    """Print the counts; the exit code is 1 if a rule is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.prose", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders; default: all packages and pages")
    parser.add_argument("-v", "--verbose", action="store_true", help="show where counted words are used")
    args = parser.parse_args()
    paths = [path.resolve() for path in args.paths] or [ROOT / name for name in (*PACKAGES, *PAGES)]
    code = [passage for file in find(paths, ".py") for passage in python_passages(file)]
    pages = [passage for file in find(paths, ".md") for passage in page_passages(file)]
    failed = False
    for title, passages in (("packages", code), ("pages", pages)):
        if not passages:
            continue
        total = count(passages)
        rates = "; ".join(f"{group} {rate:.1f}" for group, rate in total.rates().items())
        print(f"{title}: {total.words} words; per 10,000: {rates}")
        broken = total.broken + total.too_many()
        if title == "pages":
            median, too_long = long_sentences(passages)
            print(f"{title}: the median sentence has {median:g} words, allowed {MEDIAN_SENTENCE}")
            broken += too_long
            failed |= median > MEDIAN_SENTENCE
        for line in broken + (total.uses if args.verbose else []):
            print(f"  {line}")
        failed |= bool(broken)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
