"""Installs and downloads Debian packages. Each function raises :class:`CommandError` if that is not possible."""

import os
import shutil
import sys
from pathlib import Path

from testbed.cluster.command import CommandError, run

_PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "docker-registry": "docker-registry",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "tc": "iproute2",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nsenter": "util-linux",
    "gcc": "gcc",
}
_WAIT = ("-o", "DPkg::Lock::Timeout=120")
"""Another program may install packages at the same time."""
_FILES = {"/usr/lib/cni/bridge": "containernetworking-plugins", "/usr/include/stdlib.h": "libc6-dev"}


def install_for_cluster() -> None:
    """Install the missing packages that a cluster needs."""
    missing = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    missing |= {package for file, package in _FILES.items() if not Path(file).exists()}
    if missing:
        install(*sorted(missing))


def install(*names: str) -> None:
    if shutil.which("apt-get") is None:
        raise CommandError(
            f"This machine has no apt-get, and these packages are missing: {', '.join(names)}. Install them."
        )
    print(f"installing Debian packages: {' '.join(names)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", *_WAIT, env=environment)
    command = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *_WAIT, *names)
    run(*command, env=environment, timeout=900)


def download(name: str, folder: Path) -> Path:
    """Download a package into a folder without installing it, and return its file."""
    command = ("sh", "-c", 'cd "$0" && apt-get download -qq -o APT::Sandbox::User=root "$1"', str(folder), name)
    try:
        run(*command)
    except CommandError:
        run("apt-get", "update", "-qq")  # the package lists of this machine are missing or old
        run(*command)
    [archive] = folder.glob("*.deb")
    return archive
