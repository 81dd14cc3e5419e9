"""The shares of tenants in scarce resources: places at origins, bytes per second, and slots to send pieces. Pure.

A tenant is a namespace. The files of Dragonfly's clients, and the blobs that nodes pull, have no namespace. They belong
to two further tenants.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pantala_process.fair import Claim
from pantala_protocol.rules.text import split_list
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.manager import TaskManager

IMAGES = "@images"
"""The tenant of the blobs that nodes pull. No namespace can have this name."""

DRAGONFLY = "@dragonfly"
"""The tenant of the files that Dragonfly's clients want."""


def for_clients(source: FileSource) -> bool:
    """True if only Dragonfly's clients want the file."""
    return source.tenants == {DRAGONFLY}


@dataclass(frozen=True, slots=True)
class Shares:
    """The share of each tenant. A tenant that is not listed has the share 1."""

    by_tenant: Mapping[str, float] = field(default_factory=dict)

    def claim(self, source: FileSource) -> Claim:
        """The claim of the tenant for which a file is read."""
        return self.claim_of(source.tenants, source.priority)

    def claim_of_task(self, tasks: TaskManager, task_id: str) -> Claim:
        """The claim of the tenant for which a task's pieces are sent. Any thread may call this."""
        task = tasks.get(task_id)
        return Claim() if task is None else self.claim_of(task.tenants, task.priority)

    def claim_of(self, tenants: Iterable[str], priority: int = 0) -> Claim:
        """The claim for a file that ``tenants`` want: the claim of the tenant with the largest share."""
        share, tenant = max(((self.by_tenant.get(each, 1.0), each) for each in tenants), default=(1.0, ""))
        return Claim(tenant, share, priority=priority)


def parse(text: str) -> Shares:
    """Read ``team-a=3,@images=2``. Raises :class:`ValueError` with the end of a sentence that begins with the value."""
    shares: dict[str, float] = {}
    for part in split_list(text):
        tenant, equals, number = part.partition("=")
        if not tenant or not equals or not number.isascii() or not number.isdigit() or not 1 <= int(number[:7]) <= 1000:
            raise ValueError("is not a list of shares. Give NAMESPACE=NUMBER,... with whole numbers from 1 to 1000.")
        shares[tenant] = float(number)
    return Shares(shares)
