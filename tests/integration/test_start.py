"""A process can be told to end before it has begun."""

import subprocess
import sys

import pytest

_SCRIPT = """
import builtins, os, signal, sys
from {package} import __main__
real = builtins.__import__
def imported(name, *arguments, **more):
    if name == "asyncio":
        os.kill(os.getpid(), signal.{name})
    return real(name, *arguments, **more)
builtins.__import__ = imported
sys.argv = {argv}
__main__.main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("package", ["pantala_supernode", "pantala_peer", "pantala_runtime", "pantala_operator"])
def test_a_signal_while_modules_are_imported_ends_it_in_order(package: str, name: str) -> None:
    """What takes long is imported after the process listens to signals."""
    script = _SCRIPT.format(package=package, name=name, argv=[package])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert (0, "") == (done.returncode, done.stderr)
