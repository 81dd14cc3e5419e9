"""Runs short commands."""

import subprocess
from collections.abc import Mapping


class CommandError(RuntimeError):
    """A command failed. The message contains its output."""


def run(
    *command: str,
    text: str | None = None,
    check: bool = True,
    timeout: float = 300.0,
    env: Mapping[str, str] | None = None,
    all_output: bool = False,
) -> str:
    """Run ``command`` with ``text`` as its standard input and return its output (with ``all_output`` also its errors).

    Raises :class:`CommandError` if it fails, unless ``check`` is false, and if it takes more than ``timeout`` seconds.
    """
    try:
        result = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=timeout, env=env
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(command)} did not end within {timeout:.0f} s") from error
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]} is not installed") from error
    if check and result.returncode:
        output = (result.stderr.strip() or result.stdout.strip())[-4000:]
        raise CommandError(f"{' '.join(command)} ended with {result.returncode}: {output}")
    return result.stdout + result.stderr if all_output else result.stdout
