"""Runs the programs that a release needs."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class ReleaseError(RuntimeError):
    """A step failed. The message names the step's program and what to do."""


def say(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def find(program: str, advice: str) -> str:
    """Return the path of ``program`` in the virtual environment, or else in PATH."""
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is None:
        raise ReleaseError(f"{program} is not installed. {advice}")
    return path


def run(*command: str, check: bool = True) -> str:
    """Run ``command`` in the project's folder and return its output. Its stderr is shown only if it fails."""
    errors = None if check else subprocess.DEVNULL
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    if check and result.returncode:
        raise ReleaseError(f"{' '.join(command)} ended with {result.returncode}.\n{result.stdout[-4000:]}")
    return result.stdout
