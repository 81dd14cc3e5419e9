"""The habits of kubectl: flags anywhere, forms of output, completion, colours, and words for kinds."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pantala_cli.access import targets
from pantala_cli.access.cluster import connect
from pantala_cli.access.kinds import TASK
from pantala_cli.app import program
from pantala_cli.commands import completion, watching
from pantala_cli.commands.creation import named, selected
from pantala_cli.commands.waiting import seconds
from tests.support.cli import API, HOSTILE, Command, FakeAPIServer, refusal, task


@pytest.mark.parametrize(
    "arguments",
    [
        ("-n", "team", "get", "tasks"),
        ("-nteam", "get", "tasks"),
        ("--namespace=team", "get", "tasks"),
        ("get", "-n", "team", "tasks"),
        ("get", "tasks", "-n", "team"),
    ],
)
def test_the_namespace_may_stand_anywhere(command: Command, api: FakeAPIServer, arguments: tuple[str, ...]) -> None:
    api.answers["GET", f"{API}/namespaces/team/tasks"] = (200, {"items": [task("m", "team")]})
    code, out, _ = command(*arguments)
    assert (0, "m") == (code, out.splitlines()[1].split()[0])


def test_forms_of_output(command: Command) -> None:
    assert (0, "task.pantala.dev/model\n", "") == command("get", "tasks", "-o", "name")
    _, out, _ = command("get", "task", "model", "-o", "json")
    assert ("model", "Task") == (json.loads(out)["metadata"]["name"], json.loads(out).get("kind", "Task"))
    _, out, _ = command("get", "tasks", "-A", "-o", "yaml")
    shown = yaml.safe_load(out)
    assert ("List", ["Task", "Task"]) == (shown["kind"], [each["kind"] for each in shown["items"]])
    _, out, _ = command("get", "tasks,peers", "--no-headers")
    assert ["model", "node-1"] == [line.split()[0] for line in out.splitlines() if line]


def test_wide_without_the_console_is_a_note(command: Command) -> None:
    code, out, err = command("get", "tasks", "-o", "wide")
    assert (0, True, "FETCHING") == (code, "Rates and times are missing" in err, out.split()[8])


@pytest.mark.parametrize(("word", "plural"), [("tasks", "Tasks"), ("images", "ImagePrefetches")])
def test_an_empty_list_is_a_note_as_in_kubectl(command: Command, api: FakeAPIServer, word: str, plural: str) -> None:
    api.answers["GET", f"{API}/namespaces/default/{plural.lower()}"] = (200, {"items": []})
    assert (0, "", f"No {plural} in namespace default.\n") == command("get", word)


def test_errors_cannot_steer_the_terminal(command: Command, api: FakeAPIServer) -> None:
    api.answers["GET", f"{API}/namespaces/default/tasks"] = (500, {"kind": "Status", "code": 500, "message": HOSTILE})
    _, _, err = command("get", "tasks")
    assert (1, None) == (err.count("\n"), re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", err))


def test_a_watch_lists_again_when_the_api_server_forgot_its_version(
    api: FakeAPIServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(command.file))
    path = f"{API}/namespaces/default/tasks"
    with connect() as cluster:
        seen = watching.changes(cluster, TASK, "default")
        assert ["ADDED", "LISTED"] == [next(seen)[0], next(seen)[0]]
        api.watches[path] = [
            (410, {"kind": "Status", "code": 410, "message": "too old"}),
            (200, {"type": "ERROR", "object": {"kind": "Status", "code": 410}}),
            (200, {"type": "ADDED", "object": task("new")}),
        ]
        assert [("LISTED", None), ("LISTED", None), ("ADDED", "new")] == [
            (what, each["metadata"].get("name")) for what, each in (next(seen), next(seen), next(seen))
        ]


def test_a_watch_prints_documents_of_yaml(command: Command, api: FakeAPIServer) -> None:
    api.answers["GET", f"{API}/namespaces/default/tasks"] = (200, {"items": [task("one"), task("two")]})
    ended = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "end"}}
    api.watches[f"{API}/namespaces/default/tasks"] = [(200, ended)] * 3
    code, out, err = command("get", "tasks", "-w", "-o", "yaml")
    assert (1, True) == (code, "ended the watch: end" in err)
    assert ["one", "two"] == [each["metadata"]["name"] for each in yaml.safe_load_all(out)]
    out = command("get", "tasks", "-w", "--no-headers")[1]
    assert ["one", "two"] == [line.split()[0] for line in out.splitlines()]
    assert 1 == command("get", "task", "gone", "-w")[0]
    assert 2 == len([each for each in api.queries if "watch=1" in each])


def test_a_watch_of_names_lists_once(command: Command, api: FakeAPIServer) -> None:
    path = f"{API}/namespaces/default/tasks"
    api.answers["GET", path] = (200, {"items": [task("one"), task("two"), task("three")]})
    ended = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "end"}}
    api.watches[path] = [(200, ended)] * 2
    before = len(api.queries)
    out = command("get", "task", "one", "two", "-w", "--no-headers")[1]
    assert ["one", "two"] == [line.split()[0] for line in out.splitlines()]
    assert 2 == len(api.queries) - before
    command("get", "task", "one", "-w")
    assert all("fieldSelector=metadata.name%3Done" in each for each in api.queries[-2:])
    code, _, err = command("get", "task", "one", "gone", "-w")
    assert (1, True) == (code, "Task default/gone does not exist" in err)


def test_a_selector_is_passed_on(command: Command, api: FakeAPIServer) -> None:
    command("get", "tasks", "-l", "app=model")
    assert "labelSelector=app%3Dmodel" in api.queries[-1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["x"], [("Task", "x")]),
        (["task/x"], [("Task", "x")]),
        (["task", "x", "y"], [("Task", "x"), ("Task", "y")]),
        (["image/x", "tasks.pantala.dev/y"], [("ImagePrefetch", "x"), ("Task", "y")]),
        (["imgp", "x"], [("ImagePrefetch", "x")]),
    ],
)
def test_words_for_objects(words: list[str], expected: list[tuple[str, str]]) -> None:
    assert expected == [(kind.kind, name) for kind, name in targets.several(words)]


@pytest.mark.parametrize("words", [["pod/x"], ["task/"], ["task/a/b"]])
def test_wrong_words_for_objects(words: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        targets.several(words)


def test_names_are_valid_and_unique() -> None:
    assert "linux-6-12-tar-xz-" == named("Linux-6.12.tar.xz", "u")[:-8]
    assert named("", "https://host/") != named("", "https://other/")
    assert len(named("x" * 200, "u")) <= 63


def test_selectors_and_durations() -> None:
    assert {"disk": "ssd", "zone": ""} == selected("disk=ssd,zone=")
    assert (90.0, 5400.0, 45.0, 0.0) == (seconds("90s"), seconds("1h30m"), seconds("45"), seconds("0"))
    for wrong in ("soon", "5x", "m"):
        with pytest.raises(typer.BadParameter):
            seconds(wrong)
    with pytest.raises(typer.BadParameter):
        selected("disk")


def completed(*words: str) -> list[str]:
    return [each.partition("\t")[0] for each in completion.words(program(), words)]


def test_completion_of_commands_flags_and_types() -> None:
    assert {"get", "top", "explain", "doctor", "plan"} <= set(completed(""))
    assert ["explain"] == completed("-n", "x", "exp")
    assert ["--no-headers"] == completed("get", "--no")
    assert ["tasks", "images", "peers", "tasks,images"] == completed("get", "")
    assert ["zsh"] == completed("completion", "z")
    assert [] == completed("nonsense", "")


def test_completion_of_names(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(command.file))
    assert ["model"] == completed("get", "tasks", "m")
    assert ["task/model"] == completed("explain", "task/m")
    assert ["node-1"] == completed("drain", "")
    assert ["node-1"] == completed("logs", "--node", "")
    assert ["operator"] == completed("logs", "-f", "op"), "a flag without a value"
    assert ["model"] == completed("get", "--selector", "a=b", "tasks", "m")
    assert ["task/model"] == completed("wait", "--timeout", "5m", "task/m")


def test_completion_of_the_values_of_options(
    command: Command, api: FakeAPIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(command.file))
    api.answers["GET", "/api/v1/namespaces"] = (200, {"items": [{"metadata": {"name": "team"}}]})
    assert ["team"] == completed("get", "tasks", "-n", "t") == completed("--namespace", "")
    assert ["wide"] == completed("get", "tasks", "-o", "w")
    assert ["json"] == completed("top", "-o", "")
    assert [] == completed("fetch", "--name", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_program_that_kubectl_calls(command: Command, shell: str) -> None:
    code, out, _ = command("completion", shell)
    assert (0, True) == (code, "kubectl_complete-pantala" in out)


def test_dry_run_prints_what_would_be_created(command: Command) -> None:
    code, out, _ = command(
        "fetch", "https://host/dir/model.bin?x=1", "--path", "default/m", "--nodes", "disk=ssd", "--dry-run"
    )
    body: dict[str, Any] = yaml.safe_load(out)
    assert (0, "Task", "default/m") == (code, body["kind"], body["spec"]["path"])
    assert ({"disk": "ssd"}, "model-bin-") == (body["spec"]["target"]["nodeSelector"], body["metadata"]["name"][:-8])
    _, out, _ = command("prefetch", "nginx:1.29", "redis", "--pull-secret", "s", "--dry-run", "--name", "web")
    assert {"images": [{"image": "nginx:1.29"}, {"image": "redis"}], "pullSecrets": ["s"]} == yaml.safe_load(out)[
        "spec"
    ]


def test_each_command_has_a_whole_line_in_the_help(command: Command) -> None:
    code, out, _ = command()
    assert (0, False) == (code, "..." in out.partition("Commands:")[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("get", "tasks", "-o", "foo"), "'--output' / '-o': 'foo' is not one of"),
        (("completion",), "Choose from: bash, zsh, fish. Run"),
        (("fetch", "not-a-url"), "'not-a-url' is not a valid URL. Begin with http:// or https:// and a host."),
        (("fetch", "ftp://host/file"), "is not a valid URL"),
        (("fetch", "http:///file"), "is not a valid URL"),
        (("doctor", "--round-trip", "host/file"), "'host/file' is not a valid URL"),
        (("wait", "model", "--for", "delete"), "--for delete is not supported. Use --for condition=TYPE."),
    ],
)
def test_wrong_usage_is_one_line_with_the_next_step(command: Command, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = command(*arguments)
    assert (2, "", 1, True) == (code, out, len(err.splitlines()), message in err)


def test_an_absent_peer_and_a_broken_file(command: Command, api: FakeAPIServer, tmp_path: Path) -> None:
    api.answers["GET", f"{API}/peers/gone"] = refusal(404, 'peers.pantala.dev "gone" not found')
    code, _, err = command("get", "peer", "gone")
    assert (1, "error: Peer gone does not exist. To list all, run kubectl pantala get peers.\n") == (code, err)
    file = tmp_path / "broken.yaml"
    file.write_text("a: 1\nb: [c")
    code, _, err = command("plan", "-f", str(file))
    assert (1, True) == (code, "line 2, column 6" in err)


def test_a_drained_peer_is_marked(command: Command, api: FakeAPIServer) -> None:
    answer = copy.deepcopy(api.answers["GET", f"{API}/peers"][1])
    answer["items"][0]["spec"] = {"unschedulable": True}
    api.answers["GET", f"{API}/peers"] = (200, answer)
    assert "True,Drained" == command("get", "peers")[1].splitlines()[1].split()[1]


def test_a_second_fetch_says_that_the_task_exists(command: Command, api: FakeAPIServer) -> None:
    api.answers["POST", f"{API}/namespaces/default/tasks"] = refusal(409, 'tasks.pantala.dev "m" already exists')
    code, _, err = command("fetch", "http://host/m", "--name", "m")
    expected = (
        "error: Task default/m exists already. See its state with kubectl pantala explain, or use another --name.\n"
    )
    assert (1, expected) == (code, err)
