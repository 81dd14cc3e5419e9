"""A node whose containerd the peer configures."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.containerd import registry
from pantala_peer.containerd.command import main
from pantala_peer.containerd.configuration import ConfigurationReport, cleanup, configure

MIRROR = "http://127.0.0.1:65001"
THEIRS = b'# ours since 2024\nserver = "https://r.example"\n\n[host."https://cache"]\n  capabilities = ["pull"]'
PROBE = "localhost:65001"
TOKEN = "t0ken"


class ConfiguredNode:
    def __init__(self, root: Path, *, further: bool = False) -> None:
        self.certs_d, self.state = root / "etc/containerd/certs.d", root / "var/state"
        self.further = root / "etc/docker/certs.d"
        self.folders = [self.certs_d, self.further] if further else [self.certs_d]

    def configure(self, *registries: str, token: str = TOKEN) -> ConfigurationReport:
        return configure(
            self.folders, self.state, [registry.parse_registry(name) for name in registries], MIRROR, token
        )

    def cleanup(self) -> ConfigurationReport:
        return cleanup(self.folders, self.state)

    def run(self, command: str, *flags: str) -> int:
        """Run the command, and return its exit status."""
        with pytest.raises(SystemExit) as ended:
            main([command, f"--certs-d={self.certs_d}", f"--containerd-state={self.state}", *flags])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def changed(self, report: ConfigurationReport) -> list[str]:
        """The names below ``certs.d``."""
        return [Path(path).name for path in report.changed if Path(path).parent == self.certs_d]

    def write(self, name: str, content: bytes, mode: int = 0o644) -> Path:
        path = self.certs_d / name / "hosts.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def hosts(self, name: str) -> list[str]:
        return list(self.document(name)["host"])

    def document(self, name: str) -> dict[str, Any]:
        return tomllib.loads((self.certs_d / name / "hosts.toml").read_text())


@pytest.fixture
def node(tmp_path: Path) -> ConfiguredNode:
    return ConfiguredNode(tmp_path)


def snapshot(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """Everything below ``root``: modes, contents, targets of links."""
    tree = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        content = path.readlink().as_posix() if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        tree[str(path.relative_to(root))] = (mode, content)
    return tree


def has_content(directory: Path) -> bool:
    file = directory / "hosts.toml"
    return file.exists() and bool(file.read_bytes().strip())


def in_force(node: ConfiguredNode, host: str) -> Path | None:
    """The directory that containerd reads for a registry."""
    name, _, port = host.partition(":")
    names = [f"{name}_{port}_", host, "_default"] if port else [host, "_default"]
    paths = (folder / name for folder in node.folders for name in names)
    return next((path.resolve() for path in paths if path.exists()), None)
