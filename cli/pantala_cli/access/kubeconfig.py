"""Reads the user's kubeconfig as kubectl does: it merges several files and resolves credentials.

pykube reads only one file and does not support exec plugins of version v1. It would also write keys to files that other
users can read. So this module gives it only private files and a token.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from pantala_cli.errors import KubeconfigError

Document = dict[str, Any]

_LISTS = ("clusters", "contexts", "users")
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_OWN = ("token", "username", "client-certificate", "client-certificate-data")
"""Credentials in the kubeconfig itself. If one of them is set, kubectl does not run the exec plugin."""
_EXEC_SECONDS = 60.0
"""Seconds for an exec plugin, which may open a browser for the login."""


def load(environment: Mapping[str, str], *, file: str = "", context: str = "") -> Document:
    """Return the merged kubeconfig, with ``context`` (or the current one) as its current context.

    It reads ``file``, or the files of ``KUBECONFIG``, or ``~/.kube/config``. Raises :class:`KubeconfigError`.
    """
    names = [file] if file else [each for each in environment.get("KUBECONFIG", "").split(os.pathsep) if each]
    paths = [Path(name).expanduser() for name in names] or [Path.home() / ".kube" / "config"]
    found = [each for each in map(_read, paths) if each is not None]
    if not found:
        raise KubeconfigError(f"The kubeconfig {paths[0]} does not exist. Set KUBECONFIG, or use --kubeconfig.")
    document = _merge(found)
    if context:
        document["current-context"] = context
    current = document.get("current-context")
    if not current:
        raise KubeconfigError(
            "The kubeconfig has no current context. Use --context, or run kubectl config use-context."
        )
    if all(each["name"] != current for each in document["contexts"]):
        raise KubeconfigError(f"The kubeconfig has no context {current!r}. Run kubectl config get-contexts.")
    return document


def resolve(document: Document, folder: Path) -> Document:
    """Keep only the current context, with its credentials as a token and as private files in ``folder``.

    Runs the user's exec plugin, if the context has one. Raises :class:`KubeconfigError`.
    """
    context, cluster, user = _current(document)
    user = _with_credentials(user, cluster)
    for each in (cluster, user):
        for key in [key for key in each if key.endswith("-data")]:
            name = key.removesuffix("-data")
            each[name] = str(_private(folder / name, each.pop(key)))
    return {
        "current-context": "current",
        "contexts": [{"name": "current", "context": {**context, "cluster": "current", "user": "current"}}],
        "clusters": [{"name": "current", "cluster": cluster}],
        "users": [{"name": "current", "user": user}],
    }


def token(document: Document) -> str:
    """The user's newest token. Empty without a token. Raises :class:`KubeconfigError`."""
    _, cluster, user = _current(document)
    return str(_with_credentials(user, cluster).get("token", ""))


def impersonation(user: Mapping[str, Any]) -> dict[str, str]:
    """The headers with which a user of a kubeconfig acts as another one. Raises :class:`KubeconfigError`."""
    groups, extra = user.get("as-groups") or [], user.get("as-user-extra") or {}
    if len(groups) > 1 or any(len(each) > 1 for each in extra.values()):
        raise KubeconfigError(
            "The user of the kubeconfig impersonates another user with several as-groups, or with several values of "
            "one key in as-user-extra. The plugin supports one group, and one value of each key. Use another --context."
        )
    wanted = {"Impersonate-User": user.get("as"), "Impersonate-Uid": user.get("as-uid")}
    wanted["Impersonate-Group"] = groups[0] if groups else None
    wanted |= {f"Impersonate-Extra-{quote(key, safe='')}": each for key, values in extra.items() for each in values}
    return {name: str(value) for name, value in wanted.items() if value}


def _read(path: Path) -> Document | None:
    """Read a file, if it exists. Its paths are relative to its folder."""
    try:
        if not path.is_file():
            return None
        document = yaml.safe_load(path.read_text()) or {}
        for name in _LISTS:
            for each in document.setdefault(name, None) or []:
                inner, _ = each[name.removesuffix("s")], each["name"]
                for key in _PATHS:
                    if inner and inner.get(key):
                        inner[key] = str(path.parent / inner[key])
    except OSError as error:
        raise _unreadable(f"kubeconfig {path}", error, "use --kubeconfig") from error
    except (UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise KubeconfigError(f"{path} is not a kubeconfig. Set KUBECONFIG, or use --kubeconfig.") from error
    return dict(document)


def _merge(documents: list[Document]) -> Document:
    """Merge as kubectl does: for each name, the first file wins."""
    merged: Document = {name: [] for name in _LISTS}
    for document in documents:
        merged["current-context"] = merged.get("current-context") or document.get("current-context")
        for name in _LISTS:
            known = {each["name"] for each in merged[name]}
            merged[name] += [each for each in document[name] or [] if each["name"] not in known]
    return merged


def _current(document: Document) -> tuple[Document, Document, Document]:
    """The current context, its cluster and its user."""
    context = _named(document, "contexts", "context", document["current-context"])
    cluster = _named(document, "clusters", "cluster", context.get("cluster", ""))
    return context, cluster, _named(document, "users", "user", context["user"]) if context.get("user") else {}


def _named(document: Document, kinds: str, kind: str, name: str) -> Document:
    for each in document[kinds]:
        if each["name"] == name:
            return dict(each[kind] or {})
    raise KubeconfigError(
        f"The kubeconfig's context names the {kind} {name!r}, which does not exist. Correct the kubeconfig."
    )


def _with_credentials(user: Document, cluster: Document) -> Document:
    """The user with the credentials that kubectl prefers: a token's file, a token, other credentials, or a plugin's."""
    given = {key: value for key, value in user.items() if key not in ("exec", "tokenFile")}
    if user.get("tokenFile"):
        return given | {"token": _text(Path(user["tokenFile"]))}
    if user.get("exec") and not any(given.get(key) for key in _OWN):
        return given | _from_plugin(user["exec"], cluster)
    return given


def _from_plugin(plugin: Document, cluster: Document) -> Document:
    """Get credentials from an exec plugin (KEP-541): a token, or a certificate and its key."""
    if not plugin.get("command") or not plugin.get("apiVersion"):
        raise KubeconfigError("The kubeconfig's exec plugin lacks command or apiVersion. Correct the kubeconfig.")
    command = [plugin["command"], *(plugin.get("args") or [])]
    info = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": sys.stdin.isatty()}}
    if plugin.get("provideClusterInfo"):
        info["spec"]["cluster"] = {
            key: cluster[key] for key in ("server", "certificate-authority-data") if key in cluster
        }
    variables = {each["name"]: each["value"] for each in plugin.get("env") or []}
    environment = {**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=_EXEC_SECONDS, check=True)  # noqa: S603 - the user's own kubeconfig names it, as for kubectl
        status = dict(json.loads(output.stdout)["status"])
    except FileNotFoundError:
        hint = str(plugin.get("installHint") or "Install the plugin.").strip()
        raise KubeconfigError(f"The kubeconfig's exec plugin {command[0]!r} is not installed. {hint}") from None
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise KubeconfigError(
            f"The kubeconfig's exec plugin {command[0]!r} returned no credentials: {error}. Check the plugin."
        ) from error
    credentials = {}
    if status.get("token"):
        credentials["token"] = status["token"]
    for key, name in (("clientCertificateData", "client-certificate"), ("clientKeyData", "client-key")):
        if status.get(key):
            credentials[f"{name}-data"] = base64.b64encode(status[key].encode()).decode()
    return credentials


def _private(path: Path, data: str) -> Path:
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise KubeconfigError(
            f"{path.name}-data in the kubeconfig is not valid base64. Correct the kubeconfig."
        ) from error
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise _unreadable(f"kubeconfig's token file {path}", error, "log in again") from error


def _unreadable(file: str, error: OSError, remedy: str) -> KubeconfigError:
    return KubeconfigError(f"The {file} cannot be read: {error.strerror}. Get access to it, or {remedy}.")
