"""Kubeconfigs are read as kubectl reads them, and credentials stay private."""

import base64
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pantala_cli.access import kubeconfig
from pantala_cli.errors import KubeconfigError
from tests.support.unprivileged import unprivileged


def document(name: str, user: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"of-{name}"}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example", **cluster}}],
        "users": [{"name": name, "user": user}],
    }


def write(path: Path, content: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def user_of(resolved: dict[str, Any]) -> dict[str, Any]:
    return dict(resolved["users"][0]["user"])


def test_files_are_merged_and_the_first_one_wins(tmp_path: Path) -> None:
    first, second = document("a", {"token": "one"}), document("b", {"token": "two"})
    second["users"].append({"name": "a", "user": {"token": "other"}})
    files = [write(tmp_path / "1", first), str(tmp_path / "missing"), write(tmp_path / "2", second)]
    merged = kubeconfig.load({"KUBECONFIG": ":".join(files)})
    assert "a" == merged["current-context"]
    assert {"token": "one"} == user_of(kubeconfig.resolve(merged, tmp_path))
    other = kubeconfig.load({"KUBECONFIG": ":".join(files)}, context="b")
    resolved = kubeconfig.resolve(other, tmp_path)
    assert {"token": "two"} == user_of(resolved)
    assert "of-b" == resolved["contexts"][0]["context"]["namespace"]


def test_data_becomes_a_private_file(tmp_path: Path) -> None:
    encoded = base64.b64encode(b"key").decode()
    content = document("a", {"client-certificate-data": encoded, "client-key-data": encoded})
    folder = tmp_path / "private"
    folder.mkdir()
    user = user_of(kubeconfig.resolve(content, folder))
    assert {"client-certificate", "client-key"} == set(user)
    key = Path(user["client-key"])
    assert (b"key", 0o600) == (key.read_bytes(), stat.S_IMODE(key.stat().st_mode))


def test_paths_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    file = write(tmp_path / "config", document("a", {"tokenFile": "token"}, **{"certificate-authority": "ca.crt"}))
    resolved = kubeconfig.resolve(kubeconfig.load({}, file=file), tmp_path)
    assert "from-file" == user_of(resolved)["token"]
    assert str(tmp_path / "ca.crt") == resolved["clusters"][0]["cluster"]["certificate-authority"]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_an_exec_plugin_gives_a_token(tmp_path: Path, version: str) -> None:
    code = (
        "import json,os,sys; info=json.loads(os.environ['KUBERNETES_EXEC_INFO']);"
        "print(json.dumps({'status': {'token': info['apiVersion'] + sys.argv[1] + os.environ['EXTRA']}}))"
    )
    plugin = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "command": sys.executable,
        "args": ["-c", code, "-argument-"],
        "env": [{"name": "EXTRA", "value": "variable"}],
    }
    user = user_of(kubeconfig.resolve(document("a", {"exec": plugin}), tmp_path))
    assert {"token": f"client.authentication.k8s.io/{version}-argument-variable"} == user


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tokenFile", "token", "exec"}, "of the file"),
        ({"token", "exec"}, "of the user"),
        ({"client-certificate", "exec"}, ""),
        ({"exec"}, "of the plugin"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(sorted(value)),
)
def test_the_order_of_credentials_is_kubectls(tmp_path: Path, given: set[str], expected: str) -> None:
    """client-go reads a token's file first, and asks a plugin only if the user has no credentials of another kind."""
    (tmp_path / "token").write_text("of the file\n")
    answer = json.dumps({"status": {"token": "of the plugin"}})
    every = {
        "tokenFile": str(tmp_path / "token"),
        "token": "of the user",
        "client-certificate": "user.crt",
        "exec": {"apiVersion": "v1", "command": sys.executable, "args": ["-c", f"print({answer!r})"]},
    }
    user = {key: value for key, value in every.items() if key in given}
    assert expected == user_of(kubeconfig.resolve(document("a", user), tmp_path)).get("token", "")
    assert expected == kubeconfig.token(document("a", user))


def test_an_exec_plugin_gives_a_certificate(tmp_path: Path) -> None:
    answer = json.dumps({"status": {"clientCertificateData": "certificate", "clientKeyData": "key"}})
    plugin = {"apiVersion": "v1", "command": sys.executable, "args": ["-c", f"print({answer!r})"]}
    user = user_of(kubeconfig.resolve(document("a", {"exec": plugin}), tmp_path))
    assert "certificate" == Path(user["client-certificate"]).read_text()
    assert "key" == Path(user["client-key"]).read_text()


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        ({"command": "/does/not/exist", "installHint": "get it there"}, "is not installed. get it there"),
        ({"command": ""}, "lacks command"),
        ({"command": sys.executable, "args": ["-c", "raise SystemExit(3)"]}, "returned no credentials"),
        ({"command": sys.executable, "args": ["-c", "print('{}')"]}, "returned no credentials"),
        ({"command": sys.executable, "args": ["-c", "print('null')"]}, "returned no credentials"),
        ({"command": sys.executable, "args": ["-c", "print('{\"status\": null}')"]}, "returned no credentials"),
    ],
)
def test_a_plugin_that_fails_is_named(tmp_path: Path, plugin: dict[str, Any], expected: str) -> None:
    with pytest.raises(KubeconfigError, match=expected):
        kubeconfig.resolve(document("a", {"exec": {"apiVersion": "v1", **plugin}}), tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is not a kubeconfig"),
        ("[1]", "is not a kubeconfig"),
        ("users: [{}]", "is not a kubeconfig"),
        ("users: [{user: {}}]", "is not a kubeconfig"),
        ("contexts: []", "no current context"),
        ("current-context: gone", "has no context 'gone'"),
    ],
)
def test_an_unusable_kubeconfig_is_reported_in_one_line(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "config").write_text(content)
    with pytest.raises(KubeconfigError, match=expected) as caught:
        kubeconfig.load({}, file=str(tmp_path / "config"))
    assert "\n" not in str(caught.value)


def test_a_context_with_a_missing_cluster_is_reported(tmp_path: Path) -> None:
    content = document("a", {})
    content["contexts"][0]["context"]["cluster"] = "gone"
    with pytest.raises(KubeconfigError, match="cluster 'gone'"):
        kubeconfig.resolve(content, tmp_path)
    with pytest.raises(KubeconfigError, match="base64"):
        kubeconfig.resolve(document("a", {"client-key-data": "§"}), tmp_path)


def test_the_file_without_access_is_named() -> None:
    with unprivileged() as folder:
        first = write(folder / "first", document("a", {}))
        (folder / "closed").mkdir(0)
        text = (
            r"The kubeconfig .*/closed/config cannot be read: Permission denied\. Get access to it, or use --kubeconfig"
        )
        with pytest.raises(KubeconfigError, match=text):
            kubeconfig.load({"KUBECONFIG": f"{first}:{folder}/closed/config"})
