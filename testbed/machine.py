"""Prepares this machine for ``make test``: what a first run installs, downloads or builds.

Tests have time limits, and a first build takes many minutes. So nothing is built while a test waits for it.
"""

import os
import sys

from testbed import browser, prometheus
from testbed.binaries import PROGRAMS, BuildError, assets
from testbed.browser import BrowserError
from testbed.cluster import packages
from testbed.cluster.command import CommandError

_FOR_ALL = ("etcd", "kube-apiserver", "kubectl", "helm", "containerd-1.7", "containerd-2")
"""The programs of tests that need no root."""


def prepare() -> None:
    """As root, install packages and build all programs. Otherwise, build the programs that need no root.

    Raises :class:`CommandError`, :class:`BrowserError` and :class:`BuildError`.
    """
    if os.geteuid() == 0:
        packages.install_for_cluster()
        browser.program()
        prometheus.program("promtool")
        assets(list(PROGRAMS))
    else:
        assets(_FOR_ALL)


def main() -> int:
    try:
        prepare()
    except (BrowserError, BuildError, CommandError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
