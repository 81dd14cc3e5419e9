"""``python -m release STEP`` makes one part of a release in ``dist/``. Only the step ``join`` can publish something."""

import argparse
import re
import shutil
import sys
from pathlib import Path

from pantala_protocol import __version__
from release import files, images, plugin
from release.command import ROOT, ReleaseError, say

_BASE = re.compile(r"^ARG BASE=(\S+@sha256:[0-9a-f]{64})$", re.MULTILINE)
"""The base image in the Dockerfile, with its digest."""


def main() -> int:
    """Run the step that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the results")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("version", help="print the version")
    steps.add_parser("files", help="make the wheel, the chart's package, the plugin, the SBOMs and SHA256SUMS")
    steps.add_parser("plugin", help="make kubectl pantala as one file for this machine")
    build = steps.add_parser("images", help="build the images for one architecture")
    build.add_argument("--arch", choices=images.ARCHITECTURES, required=True)
    build.add_argument("--base", help="the base image; default: the one in the Dockerfile")
    join = steps.add_parser("join", help="join the images of all architectures and push them")
    join.add_argument("--to", required=True, help="where to push, as docker://registry/pantala/{process}:{version}")
    dry_run = steps.add_parser("dry-run", help="run all steps; the joined images go to a folder")
    dry_run.add_argument("--arch", choices=images.ARCHITECTURES, action="append")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        _run(args)
    except ReleaseError as error:
        say(f"release {args.step}: {error}")
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    match args.step:
        case "version":
            print(__version__)
        case "files":
            _files(args.out)
        case "plugin":
            say(f"{plugin.here(args.out)}")
        case "images":
            images.build(args.out, args.arch, args.base or base())
        case "join":
            images.join(args.out, list(images.ARCHITECTURES), args.to)
        case _:
            _dry_run(args.out, args.arch or list(images.ARCHITECTURES))


def base() -> str:
    """The base image that the Dockerfile names. Raises :class:`ReleaseError` if it has no digest."""
    found = _BASE.search((ROOT / "Dockerfile").read_text())
    if found is None:
        raise ReleaseError("The Dockerfile names no base image with a digest. Set ARG BASE=image@sha256:... there.")
    return found[1]


def _files(out: Path) -> None:
    for step in (files.wheel, files.chart, plugin.every, files.sbom, files.checksums):
        say(f"{step.__name__}")
        step(out)


def _dry_run(out: Path, architectures: list[str]) -> None:
    for stale in out.glob("pantala-*"):
        stale.unlink()
    shutil.rmtree(out / "images", ignore_errors=True)
    _files(out)
    images.install()
    for architecture in architectures:
        images.build(out, architecture, images.debian_base(architecture))
    images.join(out, architectures, f"oci:{out}/images/{{process}}:{{version}}")
    say(f"The release {__version__} is in {out}. Only the release workflow signs and publishes.")


if __name__ == "__main__":
    sys.exit(main())
