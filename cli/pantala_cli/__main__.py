"""Runs ``kubectl-pantala``, also as ``kubectl pantala``. The exit codes are in :class:`pantala_cli.errors.ExitCode`."""

import errno
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from pantala_cli.errors import CLIError, ExitCode
from pantala_cli.show.words import printable

NAME = "kubectl pantala"


def main() -> NoReturn:
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.FAILED
        if not isinstance(error, BrokenPipeError):  # after a broken pipe, no program reads the output
            use, step = "used", "Check it, and your access to it."
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                use, step = "written", "Free space there, or write to another disk."
            _failed(f"{error.filename or 'The output'} cannot be {use}: {error.strerror or error}. {step}", code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return the exit code. Each failure is one line on stderr."""
    try:
        from pantala_cli.app import program  # a slow import, during which Ctrl-C may arrive

        ended = program().main(arguments or ["--help"], prog_name=NAME, standalone_mode=False)
        return ended if isinstance(ended, int) else ExitCode.OK
    except CLIError as error:
        return _failed(str(error), error.code)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        from typer import Abort

        if isinstance(error, Abort):
            return ExitCode.INTERRUPTED
        # typer keeps the class of its errors about flags private. Each of these errors can format itself.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else NAME
        message = error.format_message().strip().replace(": Value error, ", ": ")
        return _failed(
            f"{message if message.endswith(('.', '?')) else f'{message}.'} Run {path} --help.", ExitCode.USAGE
        )


def _failed(message: str, code: ExitCode) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End like Ctrl-C does, so that a forwarded port is closed."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
