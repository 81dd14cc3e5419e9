"""kubectl as the tests use it."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.cluster.command import CommandError, run

Resource = dict[str, Any]


class Kubectl:
    """kubectl with an administrator's rights; each failure is a :class:`CommandError` with what kubectl said."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self._base = (str(program), "--kubeconfig", str(kubeconfig))

    def __call__(self, *arguments: str, text: str | None = None, check: bool = True, timeout: float = 180.0) -> str:
        """Run it; gives its standard output."""
        return run(*self._base, *arguments, text=text, check=check, timeout=timeout)

    def apply(self, *resources: Resource) -> None:
        """Apply resources."""
        self("apply", "--filename=-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(resources)}))

    def get(self, kind: str, name: str, namespace: str = "") -> Resource:
        """One resource."""
        found: Resource = json.loads(self("get", kind, name, "--output=json", *_in(namespace)))
        return found

    def list(self, kind: str, namespace: str = "", selector: str = "") -> list[Resource]:
        """All resources of a kind, in all namespaces if none is named."""
        scope = _in(namespace) or ("--all-namespaces",)
        found: list[Resource] = json.loads(self("get", kind, "--output=json", f"--selector={selector}", *scope))[
            "items"
        ]
        return found

    def exists(self, kind: str, name: str, namespace: str = "") -> bool:
        """Whether it is there."""
        return bool(self("get", kind, name, "--ignore-not-found", "--output=name", *_in(namespace)).strip())

    def wait(self, name: str, condition: str, namespace: str = "", timeout: float = 120.0) -> None:
        """``kubectl wait --for=condition=...`` once it exists, with the resource's status in the error."""
        try:
            self("wait", name, "--for=create", f"--timeout={timeout:.0f}s", *_in(namespace), timeout=timeout + 30)
            self("wait", name, f"--for=condition={condition}", f"--timeout={timeout:.0f}s", *_in(namespace),
                 timeout=timeout + 30)  # fmt: skip
        except CommandError as error:
            status = self("get", name, "--output=jsonpath={.status}", *_in(namespace), check=False)
            error.add_note(f"its status: {status}")
            raise

    @contextmanager
    def watching(self, name: str, what: str, namespace: str = "") -> Iterator[Sequence[str]]:
        """Meanwhile watch what a jsonpath says of it; the list is filled with each version's answer in the end."""
        said: list[str] = []
        template = f"--output=jsonpath={what}{{'\\n'}}"
        command = (*self._base, "get", name, "--watch", template, *_in(namespace))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
            try:
                yield said
            finally:
                watch.terminate()
                said += watch.communicate(timeout=10)[0].splitlines()

    def delete(self, name: str, namespace: str = "", timeout: float = 60.0) -> None:
        """Delete it and wait until it is gone."""
        self("delete", name, f"--timeout={timeout:.0f}s", *_in(namespace), timeout=timeout + 30)


def condition(resource: Resource, kind: str) -> Resource:
    """One of its conditions; empty if it is not there."""
    every = resource.get("status", {}).get("conditions", [])
    found: Resource = next((each for each in every if each["type"] == kind), {})
    return found


def eventually(check: Callable[[], None], timeout: float = 60.0, interval: float = 0.5) -> None:
    """Try ``check`` until it raises no :class:`AssertionError`; after ``timeout`` seconds its last one is raised."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return check()
        except (AssertionError, CommandError) as error:
            if time.monotonic() > deadline:
                error.add_note(f"(still so after {timeout:.0f} s)")
                raise
        time.sleep(interval)


def _in(namespace: str) -> tuple[str, ...]:
    return (f"--namespace={namespace}",) if namespace else ()
