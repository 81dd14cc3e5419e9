"""The Debian packages that a cluster needs."""

from __future__ import annotations

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
_FILES = {"/usr/lib/cni/bridge": "containernetworking-plugins", "/usr/include/stdlib.h": "libc6-dev"}


def install() -> None:
    """Install missing packages. Raises :class:`CommandError` if that is not possible."""
    missing = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    missing |= {package for file, package in _FILES.items() if not Path(file).exists()}
    if not missing:
        return
    names = sorted(missing)
    if shutil.which("apt-get") is None:
        raise CommandError(
            f"This machine has no apt-get, and these packages are missing: {', '.join(names)}. Install them."
        )
    print(f"installing Debian packages: {' '.join(names)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=environment)
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *names, env=environment, timeout=900)
