"""Finds out why peers are silent: the operator asks the health port of each peer that stopped its exchanges."""

import asyncio
from typing import Final

from pantala_operator.events import OperatorEvents, ProgressReported, SilenceChanged
from pantala_operator.plan.nodes import Trouble
from pantala_operator.ports import Clock, HealthProbe
from pantala_operator.term import Term
from pantala_operator.watch.observation import Observation
from pantala_process.backoff import pause_until
from pantala_protocol.reasons import Reason

_AGAIN: Final = 5.0
"""Seconds until a silent peer is asked again."""
_AT_ONCE: Final = 500
"""Peers that are asked at once."""
_ABSENT: Final = 15.0
"""Seconds that a peer has to connect again before it counts as silent."""
_LOOK: Final = 2.0
"""Seconds between two checks without a message about progress."""


class SilenceWatch:
    """Asks all silent peers, and stores the reasons of their silence in the observation."""

    def __init__(
        self, observation: Observation, probe: HealthProbe, events: OperatorEvents, clock: Clock, term: Term
    ) -> None:
        self._known = observation
        self._probe = probe
        self._events = events
        self._clock = clock
        self._term = term
        self._answers: dict[str, tuple[bool, float]] = {}
        self._absent: dict[str, float] = {}
        self._boots: tuple[str, ...] = ()
        self._signal = asyncio.Event()
        events.subscribe(ProgressReported, lambda _: self._signal.set())

    async def run(self) -> None:
        try:
            while True:
                await self._look()
                await pause_until(self._signal, _LOOK)
                self._signal.clear()
        finally:
            await self._probe.close()

    async def _look(self) -> None:
        quiet, now = self._quiet(), self._clock.monotonic()
        self._answers = {name: answer for name, answer in self._answers.items() if name in quiet}
        due = [name for name in quiet if name not in self._answers or now - self._answers[name][1] >= _AGAIN]
        for start in range(0, len(due), _AT_ONCE):
            group = due[start : start + _AT_ONCE]
            answers = await asyncio.gather(*(self._ask(name) for name in group))
            self._answers |= {name: (answer, now) for name, answer in zip(group, answers, strict=True)}
        elsewhere = self._connected_elsewhere()
        found = {
            name: _trouble(since, answers=self._answers[name][0], elsewhere=name in elsewhere)
            for name, since in quiet.items()
        }
        if self._known.progress.on_silence(found, self._clock.now().timestamp()):
            self._events.publish(SilenceChanged())

    def _quiet(self) -> dict[str, float]:
        """The peers that are silent at a supernode, and since when."""
        supernodes, now = self._known.supernodes, self._clock.now().timestamp()
        if supernodes.boots != self._boots:  # all peers connect again
            self._boots, self._absent = supernodes.boots, {}
        if supernodes.away or not supernodes.complete or not self._term.leads:
            self._absent = {}
            return {}
        gone = {name for name, peer in supernodes.peers.items() if not peer.connected}
        gone |= self._known.peers.items.keys() - supernodes.peers.keys()
        gone &= self._known.nodes.items.keys()
        self._absent = {name: self._absent.get(name, now) for name in gone}
        absent = {name: at for name, at in self._absent.items() if now - at >= _ABSENT or name in self._answers}
        return absent | self._known.progress.quiet

    def _connected_elsewhere(self) -> set[str]:
        """The peers that send requests to at least one supernode. Empty if there is only one supernode."""
        supernodes = self._known.supernodes
        several = len(supernodes.members) > 1
        return {name for name, peer in supernodes.peers.items() if several and peer.connected}

    async def _ask(self, name: str) -> bool:
        report = self._known.supernodes.peers.get(name)
        host = report.address if report is not None and report.address else self._last_address(name)
        return bool(host) and await self._probe.answers(name, host)

    def _last_address(self, name: str) -> str:
        resource = self._known.peers.items.get(name)
        return resource.status.address.rpartition(":")[0].strip("[]") if resource is not None else ""


def _trouble(since: float, *, answers: bool, elsewhere: bool) -> Trouble:
    """``elsewhere``: another supernode receives requests from the peer."""
    found = Trouble.of(Reason.NODE_CUT_OFF if answers else Reason.NODE_SILENT, "", since)
    which = "One supernode has not" if elsewhere else "No supernode has"
    answer = "but the peer's health port answers" if answers else "and the peer's health port does not answer"
    when = f"since {found.begun:%H:%M:%S} UTC"
    return found._replace(message=f"{which} received a request from the node's peer {when}, {answer}")
