"""Generates ``*_pb2`` from the ``.proto`` files in this folder: ``python -m pantala_runtime.proto.generate``."""

import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_HEAD = """\
# ruff: noqa
# fmt: off
# mypy: disable-error-code="type-arg"
"""


def generate(target: Path) -> None:
    """Write the modules and their stubs into ``target``. Needs grpcio-tools."""
    sources = sorted(str(path.relative_to(_ROOT)) for path in _HERE.glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        compiler = [sys.executable, "-m", "grpc_tools.protoc", f"-I{_ROOT}"]
        subprocess.run([*compiler, f"--python_out={folder}", f"--pyi_out={folder}", *sources], cwd=_ROOT, check=True)  # noqa: S603
        for made in sorted(Path(folder).rglob("*_pb2.py*")):
            (target / made.name).write_text(_HEAD + made.read_text())


if __name__ == "__main__":
    generate(_HERE)
