"""kubectl as the cases use it."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.cluster.command import CommandError, run

Resource = dict[str, Any]


class Kubectl:
    """Runs kubectl with an administrator's rights. A failure raises :class:`CommandError` with kubectl's output."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self._base = (str(program), "--kubeconfig", str(kubeconfig))

    def __call__(self, *arguments: str, text: str | None = None, check: bool = True, timeout: float = 180.0) -> str:
        return run(*self._base, *arguments, text=text, check=check, timeout=timeout)

    def apply(self, *resources: Resource) -> None:
        self("apply", "--filename=-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(resources)}))

    def get(self, name: str, namespace: str = "") -> Resource:
        """One resource by ``kind/name``."""
        found: Resource = json.loads(self("get", name, "--output=json", *_in(namespace)))
        return found

    def list(self, kind: str, namespace: str = "", selector: str = "") -> list[Resource]:
        scope = _in(namespace) or ("--all-namespaces",)
        answer = self("get", kind, "--output=json", f"--selector={selector}", *scope)
        found: list[Resource] = json.loads(answer)["items"]
        return found

    def exists(self, name: str, namespace: str = "") -> bool:
        return bool(self("get", name, "--ignore-not-found", "--output=name", *_in(namespace)).strip())

    def wait(self, name: str, condition: str, namespace: str = "", timeout: float = 120.0) -> None:
        """Wait until a resource exists and has a condition. An error shows its status."""
        try:
            for target in ("create", f"condition={condition}"):
                flags = (f"--for={target}", f"--timeout={timeout:.0f}s", *_in(namespace))
                self("wait", name, *flags, timeout=timeout + 30)
        except CommandError as error:
            status = self("get", name, "--output=jsonpath={.status}", *_in(namespace), check=False)
            error.add_note(f"its status: {status}")
            raise

    def wait_deleted(self, component: str, namespace: str) -> None:
        selector = f"--selector=app.kubernetes.io/component={component}"
        self("wait", "pod", "--for=delete", selector, "--timeout=60s", *_in(namespace))

    @contextmanager
    def watching(self, name: str, what: str, namespace: str = "") -> Iterator[Sequence[str]]:
        """Watch a JSONPath of a resource during the block. Its values are in the list after the block."""
        values: list[str] = []
        template = f"--output=jsonpath={what}{{'\\n'}}"
        command = (*self._base, "get", name, "--watch", template, *_in(namespace))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
            try:
                yield values
            finally:
                watch.terminate()
                values += watch.communicate(timeout=10)[0].splitlines()

    def scale(self, workload: str, replicas: int, namespace: str) -> None:
        self("scale", workload, f"--replicas={replicas}", *_in(namespace))

    def delete(self, name: str, namespace: str = "", timeout: float = 60.0) -> None:
        self("delete", name, f"--timeout={timeout:.0f}s", *_in(namespace), timeout=timeout + 30)


def _in(namespace: str) -> tuple[str, ...]:
    return (f"--namespace={namespace}",) if namespace else ()
