"""The command line of the testbed's cluster."""

import argparse
import os
import sys

from testbed.binaries import BuildError
from testbed.cluster import installation
from testbed.cluster.cluster import Cluster, down, status
from testbed.cluster.command import CommandError


def main() -> int:
    """Run a real Kubernetes cluster in network namespaces of this machine."""
    arguments = _parser().parse_args()
    try:
        return _run(arguments)
    except (CommandError, BuildError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    match arguments.verb:
        case "up":
            cluster = Cluster.up(arguments.nodes)
            on_path = set(os.environ.get("PATH", "").split(":"))
            folders = {str(program.parent) for program in cluster.programs.values()} - on_path
            print(f"export KUBECONFIG={cluster.kubeconfig} PATH={':'.join([*sorted(folders), '$PATH'])}")
        case "down":
            down()
        case "status":
            print(status())
        case "enter":
            command = Cluster.attach().entering(arguments.node, *(arguments.command or ["bash"]))
            os.execvp(command[0], command)  # noqa: S606 - the user's own command
        case "shape":
            Cluster.attach().shape(arguments.node, "" if arguments.rate == "none" else arguments.rate)
        case "install":
            print(f"Pantala runs in the namespace {installation.install(Cluster.attach())}.")
        case "push":
            print(Cluster.attach().push(arguments.image))
        case "add-node":
            print(Cluster.attach().add_node())
        case "remove-node":
            Cluster.attach().remove_node(arguments.node)
        case "recycle":
            print("\n".join(Cluster.attach().recycle_volumes()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testbed.cluster", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start the cluster, or complete it")
    up.add_argument("nodes", nargs="?", type=int, default=3)
    verbs.add_parser("down", help="remove the cluster")
    verbs.add_parser("status", help="show what runs")
    verbs.add_parser("add-node", help="start one more node")
    verbs.add_parser("recycle", help="empty the volumes whose claim is deleted, and offer them again")
    verbs.add_parser("remove-node", help="remove a node").add_argument("node")
    verbs.add_parser("install", help="build Pantala's images and install its chart, or upgrade it")
    verbs.add_parser("push", help="push localhost/IMAGE to the registry").add_argument("image")
    enter = verbs.add_parser("enter", help="run a command on a node")
    enter.add_argument("node")
    enter.add_argument("command", nargs=argparse.REMAINDER)
    shape = verbs.add_parser("shape", help="limit a node's link both ways")
    shape.add_argument("node")
    shape.add_argument("rate", help="e.g. 200mbit, or none")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
