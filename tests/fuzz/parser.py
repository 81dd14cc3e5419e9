"""One parser in the table, and one run of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

MOST_SECONDS: Final = 1.0
"""The most seconds of CPU for one input of 64 KiB. A linear parser takes a few milliseconds."""


class FuzzError(AssertionError):
    """A parser raised an error that it does not declare, or took too long."""


@dataclass(frozen=True)
class FuzzParser:
    """A parser with valid inputs, and the errors that its docstring names."""

    name: str
    parse: Callable[[bytes], object]
    """Calls the parser with bytes as they arrive from outside."""
    corpus: tuple[bytes, ...]
    documented: Callable[..., Any] | type
    """The function or class whose docstring names the errors."""
    errors: tuple[type[Exception], ...] = ()

    @property
    def undocumented(self) -> list[str]:
        """The errors that the docstring does not name."""
        text = self.documented.__doc__ or ""
        return [error.__name__ for error in self.errors if error.__name__ not in text]

    def run(self, data: bytes) -> bool:
        """Parse one input. True if it is valid. Raises :class:`FuzzError`."""
        begun = time.process_time()
        valid = True
        try:
            self.parse(data)
        except self.errors:
            valid = False
        except Exception as error:
            raise FuzzError(f"{self.name} raised {type(error).__name__}: {error}\ninput: {data[:2000]!r}") from error
        seconds = time.process_time() - begun
        if seconds > MOST_SECONDS:
            raise FuzzError(f"{self.name} took {seconds:.1f} s for {len(data)} bytes\ninput: {data[:200]!r}")
        return valid


def text(data: bytes) -> str:
    """Text from JSON or a query: any characters but half ones."""
    return data.decode(errors="replace")


def header(data: bytes) -> str:
    """The value of a header as HTTP clients and servers give it: one character for each byte."""
    return data.decode("latin-1")
