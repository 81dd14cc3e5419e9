"""Reads the commands of a page, and the output that the page shows for them."""

import re
from dataclasses import dataclass

_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """Some lines of shell, and the lines that they print, in this order. ``…`` stands for any text."""

    commands: str
    expected: tuple[str, ...]

    def missing(self, output: str) -> str | None:
        """The first expected line that the output does not have, or not after the expected lines before it."""
        printed = iter(" ".join(line.split()) for line in output.splitlines())
        for line in self.expected:
            pattern = ".*".join(re.escape(" ".join(part.split())) for part in line.split("…"))
            if not any(re.fullmatch(pattern, each) for each in printed):
                return line
        return None


def steps(page: str) -> list[Step]:
    """Give each block of shell with the block of text that follows it."""
    blocks = _BLOCK.findall(page)
    found = []
    for number, (kind, text) in enumerate(blocks):
        if kind == "sh":
            following = blocks[number + 1 : number + 2]
            shown = following[0][1].splitlines() if following and following[0][0] == "text" else []
            found.append(Step(text, tuple(line for line in shown if line.strip())))
    return found
