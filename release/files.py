"""Makes the files of a release: the wheel, the chart's package, the SBOMs and their checksums."""

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

from pantala_protocol import __version__
from release.command import ROOT, ReleaseError, find, run
from testbed.binaries import BuildError, assets

_SUMMED = {".whl", ".tgz", ".gz", ".yaml", ".json"}
PROCESSES = ("operator", "supernode", "peer", "runtime")


def wheel(out: Path) -> None:
    """Build the wheel of all packages."""
    run(find("hatchling", "Run make venv."), "build", "-t", "wheel", "-d", str(out))
    if not (out / f"pantala-{__version__}-py3-none-any.whl").exists():
        raise ReleaseError(
            f"hatchling wrote no wheel of version {__version__} to {out}. Look at [tool.hatch] in pyproject.toml."
        )


def chart(out: Path) -> None:
    """Lint and package the Helm chart."""
    helm = _helm()
    folder = str(ROOT / "charts" / "pantala")
    run(helm, "lint", "--strict", folder)
    run(helm, "package", folder, "--destination", str(out))


def sbom(out: Path) -> None:
    """Write a CycloneDX document for each image: the Python packages of its hashed lock, and Pantala itself."""
    if importlib.util.find_spec("cyclonedx_py") is None:
        raise ReleaseError(
            "cyclonedx-bom is not installed. Install requirements/release.txt, as make release-dry-run does."
        )
    program = (sys.executable, "-W", "ignore", "-m", "cyclonedx_py")
    for process in PROCESSES:
        lock = ROOT / "requirements" / f"{process}.txt"
        path = out / f"pantala-{process}-{__version__}.cdx.json"
        options = ("--output-reproducible", "--validate", "--output-file", str(path))
        run(*program, "requirements", *options, "--pyproject", str(ROOT / "pyproject.toml"), str(lock))
        document = json.loads(path.read_text())
        document["metadata"]["component"].update(name=f"pantala-{process}", version=__version__)
        path.write_text(json.dumps(document, indent=2) + "\n")


def checksums(out: Path) -> None:
    """Write SHA256SUMS with the digests of all files, so that one signature covers them."""
    files = sorted(path for path in out.iterdir() if path.is_file() and path.suffix in _SUMMED)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(lines))


def _helm() -> str:
    if on_path := shutil.which("helm"):
        return on_path
    try:
        return str(assets(["helm"])["helm"])
    except BuildError as error:
        raise ReleaseError(f"helm is not installed and could not be built: {error}") from error
