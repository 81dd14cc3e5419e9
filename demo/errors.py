"""The exception of the demo."""


class DemoError(Exception):
    """The demo cannot continue, or its result is wrong. ``log`` contains the end of a process's log."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log
