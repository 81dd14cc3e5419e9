"""Types of command line arguments."""

import argparse
from collections.abc import Callable


def numbers(most: int) -> Callable[[str], list[int]]:
    """A type for numbers from 1 to ``most``, with commas between them. Equal numbers count once."""

    def convert(text: str) -> list[int]:
        found = [number(most)(part) for part in text.split(",")]
        return list(dict.fromkeys(found))

    return convert


def number(most: int) -> Callable[[str], int]:
    """A type for a number from 1 to ``most``."""

    def convert(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = 0
        if not 1 <= found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
        return found

    return convert
