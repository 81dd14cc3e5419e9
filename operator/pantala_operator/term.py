"""The term of the leading operator: how long this replica may write, and the epoch in its statements."""

from pantala_operator.errors import NotLeadingError
from pantala_operator.ports import Clock


class Term:
    """The term that the elector has secured. Each write calls :meth:`require` just before its request."""

    def __init__(self, clock: Clock, *, alone: bool = False) -> None:
        """``alone``: only one operator runs, without a Lease. Then this replica always leads, with epoch 0."""
        self._clock = clock
        self._alone = alone
        self._until = float("-inf")
        self.epoch = 0
        """The transitions of the Lease in this replica's term. 0: this replica has had no term."""
        self.cut_off = False
        """True if the API server does not answer, so that the term of this replica cannot be renewed."""

    @property
    def remaining(self) -> float:
        """Seconds for which this replica leads at least, by the monotonic clock."""
        return float("inf") if self._alone else self._until - self._clock.monotonic()

    @property
    def leads(self) -> bool:
        return self.remaining > 0

    @property
    def may_state(self) -> bool:
        """True if this replica may send statements.

        A replica that is cut off repeats its statement to a restarted supernode. Another replica may lead meanwhile.
        Then supernodes refuse the older epoch.
        """
        return self.leads or (self.cut_off and self.epoch > 0)

    def require(self) -> float:
        """Seconds that a write may take. Raises :class:`NotLeadingError`."""
        remaining = self.remaining
        if remaining <= 0:
            raise NotLeadingError("this replica does not lead, so it may not write")
        return remaining

    def extend(self, until: float, epoch: int) -> None:
        """Lead until this moment of the monotonic clock."""
        self._until, self.epoch, self.cut_off = until, epoch, False

    def end(self) -> None:
        self._until, self.cut_off = float("-inf"), False
