"""``doctor``: checks the installation and its nodes, and says what to do."""

import json
import secrets
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from pantala_cli.access.cluster import Cluster
from pantala_cli.access.kinds import PANTALA, TASK, status_of
from pantala_cli.access.options import UserAccess
from pantala_cli.access.targets import ObjectName
from pantala_cli.commands.creation import check_url
from pantala_cli.commands.waiting import Timeout, seconds, until
from pantala_cli.doctor import installation, nodes
from pantala_cli.doctor.diagnosis import Diagnosis, Level, failed, ok, picture
from pantala_cli.doctor.facts import Facts, collect
from pantala_cli.errors import CLIError, ExitCode
from pantala_cli.show import terminal
from pantala_cli.show.words import counted, size

RoundTrip = Annotated[
    str,
    typer.Option(
        "--round-trip",
        metavar="URL",
        help="The URL of a small file, which reaches all nodes and is deleted again.",
        show_default=False,
    ),
]
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="json", help="json: a list of findings.", show_default=False)
]

CHECKS = (
    nodes.distribution, installation.readable, installation.crds, installation.pods, installation.pod_security,
    installation.versions, installation.policies, installation.ports, nodes.runtimes, nodes.peers, nodes.mirror,
    nodes.clocks, nodes.disks, installation.volumes,
)  # fmt: skip
_AFTER = 300
"""Seconds after which the operator deletes the Task of a round trip that this command could not delete."""


def doctor(access: UserAccess, round_trip: RoundTrip = "", timeout: Timeout = "2m", output: Output = "") -> None:
    """Check the installation and all nodes. Exit code 1: a check failed."""
    if output not in ("", "json"):
        raise typer.BadParameter(f"-o {output} is not a format of doctor. Use -o json.")
    limit = seconds(timeout)
    if round_trip:
        check_url(round_trip)
    with access.cluster() as cluster:
        findings = list(examine(collect(cluster, access)))
        if round_trip:
            if not output:
                terminal.note(f"note: the round trip takes up to {timeout}")
            findings.append(journey(cluster, access.chosen(cluster), round_trip, limit))
    if output:
        typer.echo(json.dumps([each._asdict() for each in findings], indent=4))
    else:
        terminal.show(picture(findings))
        terminal.note(summary(findings))
    if any(each.level is Level.FAILED for each in findings):
        raise typer.Exit(ExitCode.FAILED)


def examine(facts: Facts) -> Iterator[Diagnosis]:
    """All findings, in the order of the checks."""
    for check in CHECKS:
        yield from check(facts)


def summary(findings: list[Diagnosis]) -> str:
    wrong = sum(each.level is Level.FAILED for each in findings)
    doubtful = sum(each.level is Level.WARNING for each in findings)
    return f"{counted(len(findings), 'finding')}: {wrong} failed, {counted(doubtful, 'warning')}"


def journey(cluster: Cluster, namespace: str, url: str, limit: float) -> Diagnosis:
    """Distribute a file to all nodes with a temporary Task, and delete it."""
    name = f"doctor-{secrets.token_hex(4)}"
    spec = {"source": {"url": url}, "ttlSecondsAfterFinished": _AFTER}
    body = {"apiVersion": PANTALA, "kind": TASK.kind, "metadata": {"name": name}, "spec": spec}
    began = time.monotonic()
    try:
        cluster.create(TASK, namespace, body)
        try:
            until(cluster, namespace, [ObjectName(TASK, name)], limit)
            status = status_of(cluster.get(TASK, namespace, name))
        finally:
            cluster.delete(TASK, namespace, name)
    except CLIError as error:
        problem = str(error).partition(" More: ")[0]  # explain cannot show a deleted Task
        return failed("round trip", problem, "Correct this, then run doctor again.")
    took, count = time.monotonic() - began, (status.get("peers") or {}).get("ready", 0)
    return ok("round trip", f"{size(status.get('contentLength'))} reached {counted(count, 'node')} in {took:.1f} s")
