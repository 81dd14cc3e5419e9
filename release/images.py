"""Builds the images of a release with buildah, one archive for each process and architecture, and joins them."""

import os
import platform
import shutil
import tempfile
from pathlib import Path

from pantala_protocol import __version__
from release.command import ROOT, ReleaseError, find, run, say
from release.files import PROCESSES

ARCHITECTURES = ("amd64", "arm64")

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_CERTIFICATES = "/etc/ssl/certs"
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_PACKAGES = "--include=python3,python3-venv,python3-pip,ca-certificates"


def build(out: Path, architecture: str, base: str) -> None:
    """Build each process's image from its target in the Dockerfile, on ``base``, and write it as an OCI archive."""
    folder = out / "images"
    folder.mkdir(exist_ok=True)
    for process in PROCESSES:
        say(f"image {process}, {architecture}")
        name = f"localhost/pantala-release/{process}:{__version__}-{architecture}"
        _buildah(
            "build", "--layers", "--isolation=chroot", "--network=host", f"--arch={architecture}",
            f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro", f"--build-arg=BASE={base}",
            f"--label=org.opencontainers.image.version={__version__}",
            f"--target={process}", f"--tag={name}", str(ROOT),
        )  # fmt: skip
        archive = _archive(folder, process, architecture)
        archive.unlink(missing_ok=True)
        _buildah("push", "--quiet", name, f"oci-archive:{archive}")


def join(out: Path, architectures: list[str], destination: str) -> None:
    """Join the archives of each process to one multi-platform image, and push it to ``destination``.

    ``{process}`` and ``{version}`` in it are replaced. The digests are written to ``digests/``, for the signatures.
    """
    digests = out / "digests"
    digests.mkdir(exist_ok=True)
    for process in PROCESSES:
        name = f"localhost/pantala-release/{process}:{__version__}"
        _buildah("manifest", "rm", name, check=False)
        _buildah("manifest", "create", name)
        for architecture in architectures:
            archive = _archive(out / "images", process, architecture)
            if not archive.exists():
                raise ReleaseError(f"{archive} is missing. Build the images for {architecture} first.")
            _buildah("manifest", "add", name, f"oci-archive:{archive}")
        target = destination.format(process=process, version=__version__)
        _buildah("manifest", "push", "--quiet", "--all", f"--digestfile={digests / process}", name, target)
        say(f"image {process}: {(digests / process).read_text()} in {target}")


def debian_base(architecture: str) -> str:
    """Make a base image from Debian packages, for a machine that reaches no image registry."""
    name = f"localhost/pantala-python-base:{architecture}"
    if _buildah("images", "--quiet", name, check=False).strip():
        return name
    if platform.machine() != _MACHINES[architecture]:
        _emulate(architecture)
    say(f"making the base image for {architecture} from Debian packages")
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")
    mmdebstrap = find("mmdebstrap", "Install it: apt-get install mmdebstrap.")
    with tempfile.TemporaryDirectory(prefix="pantala-base-") as folder:
        tree = str(Path(folder) / "base.tar")
        run(mmdebstrap, "--quiet", "--variant=minbase", f"--architectures={architecture}", _PACKAGES, suite, tree)
        container = _buildah("from", f"--arch={architecture}", "scratch").strip()
        try:
            _buildah("add", "--quiet", container, tree, "/")
            _buildah("commit", "--quiet", container, name)
        finally:
            _buildah("rm", container, check=False)
    return name


def install() -> None:
    """Install the Debian packages that the images need, where root may do so."""
    wanted = {
        "buildah": "buildah",
        "mmdebstrap": "mmdebstrap",
        "arch-test": "arch-test",
        "qemu-aarch64-static": "qemu-user-static",
    }
    missing = [package for program, package in wanted.items() if shutil.which(program) is None]
    if not missing or os.geteuid() or shutil.which("apt-get") is None:
        return
    say(f"installing Debian packages: {' '.join(missing)}")
    run("apt-get", "update", "-qq")
    run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-yqq", "--no-install-recommends", *missing)


def _emulate(architecture: str) -> None:
    """Make the kernel run programs of another architecture by QEMU."""
    name = f"qemu-{_MACHINES[architecture]}"
    advice = f"Install qemu-user-static as root, or build {architecture} on a machine of that kind."
    try:
        if not (_BINFMT / "register").exists():
            run("mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT))
        if not (_BINFMT / name).exists():
            (_BINFMT / "register").write_bytes(Path(f"/usr/lib/binfmt.d/{name}.conf").read_bytes().strip())
    except OSError as error:
        raise ReleaseError(f"This machine cannot run {architecture} programs: {error}. {advice}") from error


def _archive(folder: Path, process: str, architecture: str) -> Path:
    return folder / f"{process}-{architecture}.tar"


def _buildah(*arguments: str, check: bool = True) -> str:
    program = find("buildah", "Install it: apt-get install buildah.")
    return run(program, "--storage-driver", "overlay", *arguments, check=check)
