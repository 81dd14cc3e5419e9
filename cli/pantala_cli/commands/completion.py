"""``completion``: scripts for shells, and the words that ``kubectl_complete-pantala`` gives to kubectl."""

import contextlib
import itertools
from collections.abc import Container, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from pantala_cli.access.kinds import IMAGE, NAMESPACE, PEER, SHOWN, TASK, ResourceKind, named
from pantala_cli.access.options import VALUED, UserAccess
from pantala_cli.commands.get import Form
from pantala_cli.commands.programs import Component
from pantala_cli.errors import CLIError

_KINDS = {
    "get": SHOWN, "explain": (TASK, IMAGE), "top": (TASK, IMAGE), "wait": (TASK, IMAGE), "retry": (TASK, IMAGE),
    "suspend": (TASK, IMAGE), "resume": (TASK, IMAGE), "drain": (PEER,), "status": (TASK,),
}  # fmt: skip


class Shell(StrEnum):
    """The shells with a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


Which = Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", show_default=False)]

_SCRIPTS = {
    Shell.BASH: """\
_kubectl_pantala() {
    local line words=()
    while IFS= read -r line; do
        [[ $line == :* ]] || words+=("${line%%$'\\t'*}")
    done < <(kubectl_complete-pantala "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=("${words[@]}")
}
complete -o default -F _kubectl_pantala kubectl-pantala
""",
    Shell.ZSH: """\
#compdef kubectl-pantala
_kubectl_pantala() {
    local line found=()
    for line in ${(f)"$(kubectl_complete-pantala ${words[2,CURRENT]} 2>/dev/null)"}; do
        [[ $line == :* ]] || found+=("${line%%$'\\t'*}")
    done
    compadd -- $found
}
compdef _kubectl_pantala kubectl-pantala
""",
    Shell.FISH: """\
function __kubectl_pantala
    set -l words (commandline -opc) (commandline -ct)
    kubectl_complete-pantala $words[2..-1] 2>/dev/null | string match -rv '^:'
end
complete -c kubectl-pantala -f -a '(__kubectl_pantala)'
""",
}


def completion(shell: Which) -> None:
    """Print a script that completes commands, flags and names. Put it into your shell's start file."""
    typer.echo(_SCRIPTS[shell], nl=False)


def words(command: Any, given: Sequence[str]) -> list[str]:
    """The words that may stand where the last given word stands, in cobra's form: word, tab, help."""
    *before, last = given or [""]
    context, name = command.make_context("kubectl pantala", [], resilient_parsing=True), ""
    valued = set(VALUED)
    if rest := _positional(before, valued):
        name = rest[0]
        inner = command.get_command(context, name)
        if inner is None:
            return []
        command = inner
        flags = (param for param in command.params if not getattr(param, "is_flag", False))
        valued.update(opt for param in flags for opt in param.opts if opt.startswith("-"))
        rest = _positional(before, valued)
    if before and before[-1] in valued:
        return [each for each in _values(command, before) if each.startswith(last)]
    if last.startswith("-"):
        return _options(command, last)
    if not name:
        known = ((each, command.get_command(context, each)) for each in command.list_commands(context))
        return [f"{each}\t{inner.get_short_help_str(80)}" for each, inner in known if each.startswith(last)]
    return [each for each in _names(name, rest[1:], before, last) if each.startswith(last)]


def _options(command: Any, last: str) -> list[str]:
    return [
        f"{flag}\t{param.help or ''}"
        for param in command.params
        for flag in param.opts
        if flag.startswith("--") and flag.startswith(last)
    ]


def _positional(given: Sequence[str], valued: Container[str]) -> list[str]:
    """The words that are neither options nor the values of ``valued`` options."""
    pairs = itertools.pairwise(["", *given])
    return [word for former, word in pairs if former not in valued and not word.startswith("-")]


def _values(command: Any, given: Sequence[str]) -> list[str]:
    """The values of the last option: namespaces, nodes or formats. Other values are free text."""
    option = given[-1]
    if option in ("-n", "--namespace"):
        return _objects(_access(given), NAMESPACE, "")
    if option == "--node":
        return _objects(_access(given), PEER, "")
    if option in ("-o", "--output"):
        return ["json"] if command.name == "top" else [str(form) for form in Form]
    return []


def _names(command: str, rest: Sequence[str], given: Sequence[str], last: str) -> list[str]:
    """Types and the names of objects in the cluster."""
    if command == "completion":
        return [str(shell) for shell in Shell]
    if command == "logs":
        return [str(process) for process in Component]
    known = _KINDS.get(command, ())
    access = _access(given)
    if command == "get" and not rest and "/" not in last:
        return ["tasks", "images", "peers", "tasks,images"]
    if command in ("drain", "status"):
        return _objects(access, known[0], "")
    if command == "get" and rest:
        kind = named(rest[0])
        return _objects(access, kind, "") if kind is not None else []
    return [name for kind in known for name in _objects(access, kind, f"{_prefix(kind)}/")]


def _prefix(kind: ResourceKind) -> str:
    return "image" if kind == IMAGE else kind.singular


def _objects(access: UserAccess, kind: ResourceKind, prefix: str) -> list[str]:
    with contextlib.suppress(CLIError), access.cluster() as cluster:
        found = cluster.objects(kind, access.chosen(cluster) if kind.namespaced else None)
        return [f"{prefix}{each['metadata']['name']}" for each in found]
    return []


def _access(given: Sequence[str]) -> UserAccess:
    values = dict(itertools.pairwise(given))
    return UserAccess(
        namespace=values.get("-n") or values.get("--namespace", ""),
        kubeconfig=values.get("--kubeconfig", ""),
        context=values.get("--context", ""),
    )
