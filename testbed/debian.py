"""Images of several hundred MB from Debian packages, with the same base layer. They stay in the user's cache.

There are two: ``large("compiler")`` and ``large("backend")``. Their pods only sleep. Needs apt-get and mmdebstrap.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from testbed.binaries import cache
from testbed.cluster import packages
from testbed.cluster.command import run
from testbed.cluster.images import archive
from testbed.image import Image, Layer, build, load

PACKAGES = {"compiler": ("gcc-12",), "backend": ("libllvm14",)}
"""The packages above the base layer, by the image's name."""


def large(name: str) -> Image:
    """The image with this name, which is built at the first call."""
    folder = cache() / "images" / name
    if not (folder / "index.json").exists():
        print(
            f"making the image {name} from Debian packages: this happens once and takes some seconds",
            file=sys.stderr,
            flush=True,
        )
        base = archive()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            layers = [Layer(tar=base), *(Layer(tar=_unpacked(package, Path(made))) for package in PACKAGES[name])]
            build(Path(made) / "image", layers, entrypoint=("sleep", "infinity"))
            shutil.rmtree(folder, ignore_errors=True)
            (Path(made) / "image").replace(folder)
    return load(folder)


def _unpacked(package: str, folder: Path) -> Path:
    """Download a Debian package, and return a tar archive of its files."""
    own = folder / package
    own.mkdir(mode=0o755)
    downloaded = packages.download(package, own)
    run("sh", "-c", 'dpkg-deb --fsys-tarfile "$0" > "$1"', str(downloaded), str(own / "files.tar"))
    return own / "files.tar"
