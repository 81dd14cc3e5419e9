"""Builds images without a registry: a base from Debian packages, Pantala's from the Dockerfile, and ``pause``."""

import fcntl
import platform
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from testbed.binaries import cache
from testbed.cluster import layout
from testbed.cluster.command import run
from testbed.image import runnable

BASE = "localhost/pantala-python-base"
"""The image with Debian's python3 that is passed to the Dockerfile as its argument ``BASE``."""

_BUILDAH = ("buildah", "--storage-driver", "overlay")
_CERTIFICATES = "/etc/ssl/certs"


def base() -> None:
    """Make the base image, once per machine."""
    if run(*_BUILDAH, "images", "--quiet", BASE, check=False).strip():
        return
    tree = archive()
    container = run(*_BUILDAH, "from", "scratch").strip()
    try:
        run(*_BUILDAH, "add", "--quiet", container, str(tree), "/")
        run(*_BUILDAH, "commit", "--quiet", container, BASE)
    finally:
        run(*_BUILDAH, "rm", container, check=False)


def archive() -> Path:
    """The tar archive of the base image's files, made from Debian packages once per user."""
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")
    made = cache() / f"python-base-{suite}.tar"
    made.parent.mkdir(parents=True, exist_ok=True)
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes may need it at once
        if not made.exists():
            print(
                f"making the base image from Debian packages ({suite}): this happens once and takes about a minute",
                file=sys.stderr,
                flush=True,
            )
            partial = made.with_suffix(".partial.tar")
            packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
            run("mmdebstrap", "--variant=minbase", packages, suite, str(partial), timeout=900)
            partial.replace(made)
    return made


def build(context: Path, target: str, image: str, arguments: Mapping[str, str] | None = None) -> None:
    """Build one target of the Dockerfile in ``context`` as ``localhost/<image>``."""
    base()
    given = {"BASE": BASE, **(arguments or {})}
    run(
        *_BUILDAH, "build", "--layers", "--isolation=chroot", "--network=host",
        f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro", *[f"--build-arg={key}={value}" for key, value in given.items()],
        f"--target={target}", f"--tag=localhost/{image}", str(context), timeout=900,
    )  # fmt: skip


def exists(image: str) -> bool:
    """True if ``localhost/<image>`` has been built."""
    return bool(run(*_BUILDAH, "images", "--quiet", f"localhost/{image}", check=False).strip())


def prune(repository: str, keep: str) -> None:
    """Remove the images ``localhost/<repository>`` with all tags except ``keep``."""
    listed = run(*_BUILDAH, "images", "--noheading", "--format={{.Name}}:{{.Tag}}", check=False).split()
    for name in listed:
        if name.startswith(f"localhost/{repository}:") and not name.endswith(f":{keep}"):
            run(*_BUILDAH, "rmi", name, check=False)


_KNOWING_HOSTS = (
    "unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /etc/hosts; exec "$@"', str(layout.HOSTS),
)  # fmt: skip
"""Runs a command for which the names of the cluster's DNS exist on this machine."""


def push(image: str) -> str:
    """Push ``localhost/<image>`` to the cluster's registry and return its name there."""
    name = f"{layout.REGISTRY}/{image}"
    run(*_KNOWING_HOSTS, *_BUILDAH, "push", "--quiet", "--tls-verify=false", f"localhost/{image}", f"docker://{name}")
    return name


def write_pause(archive: Path) -> None:
    """Write the ``pause`` image, whose one program keeps a pod's namespaces open."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive, "w") as tar:
        runnable([], Path(folder), platforms=[f"linux/{machine}"])
        tar.add(folder, arcname=".")
