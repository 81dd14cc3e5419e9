"""What can fail in a demo."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on, or its result is wrong. The message says what; ``log`` has the end of a process's log."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log
