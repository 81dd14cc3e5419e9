"""What each namespace uses of its quotas: bytes on this supernode, and bytes read from origins within a day. Pure.

A copy that several namespaces want is charged to each of them in full. So a namespace cannot save its own quota by the
files of others, and is not charged for a file that it does not want.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping

from pantala_protocol.rules.quotas import Quota

UNLIMITED = sys.maxsize


class Account:
    """The account of one namespace. Its sums are never above the quotas, except after a quota was lowered."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.kept = 0
        """The bytes of all charged copies."""
        self.read = 0
        """The bytes that were read from origins on this day, and the bytes that running reads have reserved."""
        self._copies: Counter[str] = Counter()

    def room(self, copy: str) -> int:
        """The most bytes that one copy may have, in addition to all other copies."""
        quota = self.quota.bytes
        return UNLIMITED if quota is None else max(0, quota - self.kept + self._copies[copy])

    @property
    def left(self) -> int:
        """The bytes that may still be read on this day."""
        quota = self.quota.daily
        return UNLIMITED if quota is None else max(0, quota - self.read)

    def charge(self, copy: str, size: int) -> bool:
        """Charge a copy with ``size`` bytes, instead of its former size. False: the quota does not allow it."""
        if size > self._copies[copy] and size > self.room(copy):
            return False
        self.kept += size - self._copies[copy]
        self._copies[copy] = size
        return True

    def release(self, copy: str) -> None:
        self.kept -= self._copies.pop(copy, 0)

    def reserve(self, count: int) -> bool:
        """Reserve bytes to read. False: the quota does not allow it."""
        if count > self.left:
            return False
        self.read += count
        return True

    def give_back(self, count: int) -> None:
        """Give back reserved bytes that were not read."""
        self.read = max(0, self.read - count)


class Accounts:
    """The accounts of all namespaces."""

    def __init__(self, quota: Callable[[str], Quota]) -> None:
        self._quota = quota
        self._accounts: dict[str, Account] = {}
        self.day = 0
        """The day to which :attr:`Account.read` belongs, in days since the epoch."""

    def of(self, namespace: str) -> Account:
        if namespace not in self._accounts:
            self._accounts[namespace] = Account(self._quota(namespace))
        return self._accounts[namespace]

    def begin_day(self, day: int) -> None:
        """Forget the reads before ``day``. A clock that is set back a little, over midnight, has no effect."""
        if day > self.day or day < self.day - 1:
            self.day = day
            for account in self._accounts.values():
                account.read = 0

    def reads(self) -> dict[str, int]:
        """The bytes that each namespace has read or reserved on this day."""
        return {name: account.read for name, account in self._accounts.items() if account.read}

    def restore(self, day: int, reads: Mapping[str, int]) -> None:
        """Continue the day of an earlier process."""
        if day == self.day:
            for name, count in reads.items():
                self.of(name).read = max(self.of(name).read, count)
