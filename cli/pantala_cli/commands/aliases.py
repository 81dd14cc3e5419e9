"""``status`` and ``peers``: former names of ``get`` and ``explain``, which still work."""

from typing import Annotated

import typer

from pantala_cli.access.kinds import PEER, TASK
from pantala_cli.access.options import UserAccess
from pantala_cli.access.targets import ObjectName
from pantala_cli.commands import explain
from pantala_cli.commands.get import AllNamespaces, Form, Output, Watch, get
from pantala_cli.show import terminal

Name = Annotated[str, typer.Argument(metavar="TASK", help="The Task's name. Default: all Tasks.", show_default=False)]


def status(
    access: UserAccess,
    task: Name = "",
    all_namespaces: AllNamespaces = False,
    watch: Watch = False,
    output: Output = Form.TABLE,
) -> None:
    """The former name of get tasks and explain."""
    names = [task] if task else []
    get(access, [TASK.plural, *names], output, all_namespaces, watch)
    if task and not watch and output in (Form.TABLE, Form.WIDE):
        terminal.show("")
        explain.explain_one(access, ObjectName(TASK, task))


def peers(access: UserAccess, watch: Watch = False, output: Output = Form.TABLE) -> None:
    """The former name of get peers."""
    get(access, [PEER.plural], output, watch=watch)
