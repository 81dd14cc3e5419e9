"""``kubectl-pantala`` against a scripted API server."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from pantala_cli.access.cluster import connect
from pantala_cli.commands import plan
from pantala_protocol import __version__
from tests.support.cli import API, Command, FakeAPIServer, refusal, task


def test_status_sums_up_each_task_of_one_or_all_namespaces(command: Command, api: FakeAPIServer) -> None:
    code, out, err = command("status")
    assert (0, "") == (code, err)
    heading, line = out.splitlines()
    assert ["NAME", "READY", "REASON", "PROGRESS", "NODES", "SIZE", "ORIGIN", "AGE"] == heading.split()
    assert ["model", "False", "Progressing", "83%", "1/2", "100Mi", "1.00x"] == line.split()[:-1]
    assert "Bearer t0ken" == api.asked[0][2]
    code, out, _ = command("status", "-A")
    assert 0 == code
    assert [["default", "model"], ["other", "x"]] == [line.split()[:2] for line in out.splitlines()[1:]]


def test_status_of_one_task_says_why_and_shows_no_query(command: Command) -> None:
    code, out, _ = command("status", "model")
    assert 0 == code
    assert "1 of 2 nodes" in out
    assert "node-9: no room" in out
    assert "Free space on the node." in out
    assert "https://host/f" in out
    assert "secret" not in out


def test_peers_are_shown(command: Command) -> None:
    code, out, _ = command("peers")
    shown = out.splitlines()[1].split()
    assert (0, ["node-1", "True", "10.0.0.1:65002", "-", "1", "1Ki", "0", __version__]) == (code, shown)


@pytest.mark.parametrize(("verb", "suspend"), [("suspend", True), ("resume", False)])
def test_suspend_and_resume(command: Command, api: FakeAPIServer, verb: str, suspend: bool) -> None:
    assert 0 == command(verb, "model")[0]
    assert ("PATCH", {"spec": {"suspend": suspend}}) == (api.asked[-1][0], api.asked[-1][3])


def test_retry_sets_the_annotation(command: Command, api: FakeAPIServer) -> None:
    assert 0 == command("retry", "model")[0]
    (value,) = api.asked[-1][3]["metadata"]["annotations"].items()
    assert ("pantala.dev/requested-at", "Z") == (value[0], value[1][-1])


def test_version(command: Command) -> None:
    assert (
        0,
        f"kubectl-pantala {__version__}\nKubernetes v1.34.4\noperator none\npeers {__version__}\n",
        "",
    ) == command("version")


def test_a_version_that_may_not_be_read_is_a_note(command: Command, api: FakeAPIServer) -> None:
    for key in list(api.answers):
        if "peers" in key[1] or "pods" in key[1]:
            api.answers[key] = refusal(403, "no")
    code, out, err = command("version")
    assert (0, f"kubectl-pantala {__version__}\nKubernetes v1.34.4\n") == (code, out)
    assert ["operator", "peers"] == [line.split()[-4] for line in err.splitlines()]
    assert all(line.startswith("note: You lack the permission") for line in err.splitlines())


@pytest.mark.parametrize(
    ("arguments", "answer", "expected"),
    [
        (("status", "gone"), None, "Task default/gone does not exist"),
        (("status", "a/../b"), refusal(404, 'tasks.pantala.dev "a" not found'), "does not exist"),
        (("status",), (404, "404 page not found\n"), "does not have Pantala's CRDs"),
        (("status",), refusal(404, "could not find the requested resource"), "does not have Pantala's CRDs"),
        (("status",), refusal(401, "Unauthorized"), "rejected your credentials"),
        (("status",), refusal(403, 'tasks is forbidden: User "u" cannot list'), 'User "u" cannot list'),
        (("suspend", "model"), refusal(403, "tasks is forbidden"), "You lack the permission for this request"),
        (("status",), refusal(500, "etcd is away"), "request for Tasks with 500: etcd is away"),
        (("status",), (401, {"type": "error", "message": "must authenticate"}), "rejected your credentials"),
        (("status",), (502, {"error": "no route"}), "request for Tasks with 502"),
        (("status",), (503, ["no route"]), "request for Tasks with 503"),
        (("status",), refusal(403, ""), "You lack the permission for this request: Forbidden"),
    ],
)
def test_a_failure_is_one_line_with_its_code(
    command: Command, api: FakeAPIServer, arguments: tuple[str, ...], answer: Any, expected: str
) -> None:
    if answer is not None:
        for key in list(api.answers):
            api.answers[key] = answer
        api.answers["GET", f"{API}/namespaces/default/tasks/a%2F..%2Fb"] = answer
    code, out, err = command(*arguments)
    forbidden = "rejected your credentials" in err or "You lack the permission" in err or "You may not" in err
    assert (4 if forbidden else 1, "") == (code, out)
    assert expected in err
    assert ("error: ", 1) == (err[:7], err.count("\n"))


@pytest.mark.parametrize("answer", [{"hello": "world"}, [], "text", 5, {"items": None}])
@pytest.mark.parametrize("name", ["status", "version"])
def test_another_server_is_not_taken_for_an_api_server(
    command: Command, api: FakeAPIServer, name: str, answer: object
) -> None:
    for key in list(api.answers):
        api.answers[key] = (200, answer)
    code, _, err = command(name)
    assert (3, 1) == (code, err.count("\n"))
    assert "Check the " in err


def test_a_missing_api_server_is_reported(command: Command) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        command.configure(unused.getsockname()[1], {})
        code, _, err = command("status")
    assert (3, 1) == (code, err.count("\n"))
    assert "No API server answers" in err


def test_a_user_who_acts_as_another_one_has_no_more_rights(command: Command, api: FakeAPIServer) -> None:
    user = {"token": "t", "as": "dev", "as-uid": "7", "as-groups": ["team"], "as-user-extra": {"a/b": ["c"]}}
    command.configure(api.port, user)
    assert 0 == command("status")[0]
    sent = {name: value for name, value in api.headers[-1].items() if name.startswith("Impersonate-")}
    assert {
        "Impersonate-User": "dev",
        "Impersonate-Uid": "7",
        "Impersonate-Group": "team",
        "Impersonate-Extra-a%2Fb": "c",
    } == sent
    for several in ({"as-groups": ["a", "b"]}, {"as-user-extra": {"a": ["b", "c"]}}):
        command.configure(api.port, user | several)
        code, _, err = command("status")
        assert (3, 1, True) == (code, len(api.asked), "Use another --context" in err)


def test_a_password_in_netrc_does_not_replace_the_token(
    command: Command, api: FakeAPIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert 0 == command("status")[0]
    assert "Bearer t0ken" == api.asked[0][2]


@pytest.mark.parametrize("kind", ["Ready", "Stalled"])
def test_wait_does_not_end_for_the_attempt_before_a_retry(
    command: Command, api: FakeAPIServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The operator needs a moment to see the request of ``retry``."""
    retried = task()
    (found,) = [each for each in retried["status"]["conditions"] if each["type"] == kind]
    found["status"] = "True"
    retried["metadata"]["annotations"] = {"pantala.dev/requested-at": "2"}
    retried["status"]["lastHandledRequest"] = "1"
    api.answers["GET", f"{API}/namespaces/default/tasks/model"] = (200, retried)
    looks: list[float] = []

    def see(pause: float) -> None:
        looks.append(pause)
        if len(looks) == 2:
            retried["status"]["lastHandledRequest"] = "2"

    monkeypatch.setattr("time.sleep", see)
    code, _, err = command("wait", "task/model")
    assert (2, 0 if kind == "Ready" else 1, kind == "Stalled") == (len(looks), code, "failed" in err)


def test_a_wait_shows_the_reason_and_the_progress_if_it_is_known(
    command: Command, api: FakeAPIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, where = task("model"), f"{API}/namespaces/default/tasks"
    api.answers |= {("POST", where): (201, made), ("GET", f"{where}/model"): (200, made)}
    states = [("False", "SourceRefused", ""), ("False", "Progressing", "40%"), ("True", "Distributed", "100%")]

    def see(_: float = 0.0) -> None:
        status, reason, progress = states.pop(0)
        found = [{"type": "Ready", "status": status, "reason": reason, "message": "m"}]
        made["status"] = {"conditions": found, "peers": {"desired": 3, "ready": 0}, "progress": progress}

    see()
    monkeypatch.setattr("time.sleep", see)
    code, _, err = command("fetch", "https://origin.example/model", "--name", "model", "--wait")
    assert (0, ["task model: 0/3 nodes (SourceRefused)", "task model: 40%, 0/3 nodes (Progressing)"]) == (
        code,
        err.splitlines(),
    )


def test_a_plan_without_a_limit_waits_for_the_registry(
    command: Command, api: FakeAPIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, where = task("plan-x"), f"{API}/namespaces/default/imageprefetches"
    api.answers |= {("POST", where): (201, made), ("GET", f"{where}/plan-x"): (200, made)}
    api.answers["DELETE", f"{where}/plan-x"] = (200, {})

    def see(_: float) -> None:
        made["status"] = {"plan": {"images": []}, "conditions": [{"type": "Ready", "reason": "Planned"}]}

    monkeypatch.setattr("time.sleep", see)
    monkeypatch.setattr("secrets.token_hex", lambda _: "x")
    body = {"apiVersion": "pantala.dev/v1alpha1", "metadata": {"name": "web"}, "spec": {"images": [{"image": "one"}]}}
    with connect(str(command.file)) as cluster:
        assert {"images": []} == plan.ask(cluster, "default", body, 0)
    assert ["POST", "GET", "GET", "DELETE"] == [each[0] for each in api.asked]


PLUGIN = """
import json, pathlib, sys
file = pathlib.Path(sys.argv[1])
file.write_text(file.read_text() + "x")
print(json.dumps({"status": {"token": file.read_text()}}))
"""


def test_a_token_that_expires_is_renewed_once(command: Command, api: FakeAPIServer, tmp_path: Path) -> None:
    """Clouds give tokens for 15 minutes. A command such as ``wait`` or ``top`` runs longer."""
    (tmp_path / "runs").write_text("")
    plugin = {"apiVersion": "v1", "command": sys.executable, "args": ["-c", PLUGIN, str(tmp_path / "runs")]}
    command.configure(api.port, {"exec": plugin})
    api.tokens = {"xx"}
    assert 0 == command("suspend", "model")[0]
    assert ["Bearer x", "Bearer xx"] == [each[2] for each in api.asked]
    assert [{"spec": {"suspend": True}}] * 2 == [each[3] for each in api.asked]
    (tmp_path / "runs").write_text("xx")
    assert 4 == command("suspend", "model")[0]
    assert "xxxx" == (tmp_path / "runs").read_text()


def test_a_token_file_is_read_again(command: Command, api: FakeAPIServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old")
    command.configure(api.port, {"tokenFile": str(tmp_path / "token")})
    with connect(str(command.file)) as cluster:
        assert "v1.34.4" == cluster.version()
        (tmp_path / "token").write_text("new")
        api.tokens = {"new"}
        assert ["v1.34.4"] * 2 == [cluster.version() for _ in range(2)]
    assert ["old", "old", "new", "new"] == [each[2].removeprefix("Bearer ") for each in api.asked]


def test_the_proxy_of_the_kubeconfig_comes_first(
    command: Command, api: FakeAPIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers["GET", f"http://api.invalid{API}/namespaces/default/tasks"] = (200, {"items": [task()]})
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    command.configure(
        api.port, {"token": "t"}, server="http://api.invalid", **{"proxy-url": f"http://127.0.0.1:{api.port}"}
    )
    assert (0, "") == command("status")[::2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--nonsense"),
        ("retry",),
        ("status", "x", "-A"),
        ("get",),
        ("get", "frobs"),
        ("wait", "x", "--timeout", "soon"),
    ],
)
def test_wrong_flags_are_code_2(command: Command, arguments: tuple[str, ...]) -> None:
    assert 2 == command(*arguments)[0]
