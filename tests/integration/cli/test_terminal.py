"""``kubectl pantala`` as a process: it starts, it writes to a terminal, and a shell completes its words."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.support.cli import API, HOSTILE, Command, FakeAPIServer, FakeConsole, task


def test_the_program_starts() -> None:
    done = subprocess.run([sys.executable, "-m", "pantala_cli", "--help"], capture_output=True, text=True, check=True)
    assert "suspend" in done.stdout


def on_a_terminal(command: Command, *arguments: str, **environment: str) -> str:
    """The output of the program on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pantala_cli", *arguments],
        stdout=theirs, stdin=theirs, stderr=theirs,
        env=os.environ | {"KUBECONFIG": str(command.file), "TERM": "xterm", "COLUMNS": "60"} | environment,
    ) as process:  # fmt: skip
        process.wait(30)
    os.close(theirs)
    output = b""
    try:
        while chunk := os.read(ours, 65536):
            output += chunk
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    return output.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("version",),
        ("explain", "task/model"),
        ("top", "--once"),
        ("top", "--once", "-o", "json"),
        *(("get", kind, "-o", form) for kind in ("tasks", "peers") for form in ("wide", "json", "yaml")),
    ],
)
def test_messages_cannot_steer_the_terminal(
    command: Command, api: FakeAPIServer, console: FakeConsole, arguments: tuple[str, ...]
) -> None:
    hostile = task()
    hostile["status"]["failures"][0]["message"] = HOSTILE
    hostile["status"]["conditions"][0] |= {"message": HOSTILE, "reason": HOSTILE}
    peer = {
        "metadata": {"name": "node-1"},
        "status": {"conditions": [{"type": "Ready", "status": "False", "message": HOSTILE}], "version": HOSTILE},
    }
    for name, detail in console.details.items():
        views = [msgspec.structs.replace(each, reason=HOSTILE, message=HOSTILE) for each in detail.nodes]
        console.details[name] = msgspec.structs.replace(detail, nodes=tuple(views))
    api.answers["GET", f"{API}/namespaces/default/tasks/model"] = (200, hostile)
    api.answers["GET", f"{API}/namespaces/default/tasks"] = (200, {"items": [hostile]})
    api.answers["GET", f"{API}/peers"] = (200, {"items": [peer]})
    if arguments[0] == "top":
        arguments = (*arguments, "--console", console.url)
    shown = on_a_terminal(command, *arguments)
    assert "spoofed" in shown
    assert None is re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", re.sub(r"\x1b\[[0-9;]*m", "", shown))
    if "wide" in arguments:
        assert 2 == len(shown.splitlines()) - shown.count("note:"), "one object is one line"


def test_colours_only_on_a_terminal_and_never_with_no_color(command: Command) -> None:
    assert "\x1b[" in on_a_terminal(command, "get", "tasks")
    plain = on_a_terminal(command, "get", "tasks", NO_COLOR="1")
    assert ("\x1b" in plain, "Progressing" in plain) == (False, True)
    assert "\x1b" not in command("get", "tasks")[1]


def test_bash_completes_with_the_script(command: Command, tmp_path: Path) -> None:
    """A real bash, with the executable that the wheel installs."""
    program = tmp_path / "kubectl_complete-pantala"
    program.write_text(f"#!{sys.executable}\nfrom pantala_cli.app import complete\ncomplete()\n")
    program.chmod(0o755)
    script = command("completion", "bash")[1]
    asked = 'COMP_WORDS=(kubectl-pantala get ""); COMP_CWORD=2; _kubectl_pantala; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert "tasks images peers tasks,images" == done.stdout.strip()


def test_ctrl_c_while_the_program_starts_prints_nothing() -> None:
    """The import of all commands takes a third of a second, and longer on a busy machine."""
    start = """
import signal, sys

class Interruption:
    def find_spec(self, name, *_):
        if name == "pantala_cli.app":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interruption())
from pantala_cli.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False, timeout=30)
    assert (130, "", "") == (done.returncode, done.stdout, done.stderr)


def test_a_full_disk_for_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pantala_cli", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    text = "error: The output cannot be written: No space left on device. Free space there, or write to another disk.\n"
    assert (1, text) == (done.returncode, done.stderr)
