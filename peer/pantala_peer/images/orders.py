"""Carries out the orders, with one job for each. Checks regularly that ready images are still on the node."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import structlog

from pantala_peer.events import ImagesOrdered, PeerEvents
from pantala_peer.images.blobs import CachedImages
from pantala_peer.images.errors import InvalidOrderError, OrderError, OrderTimeoutError, RuntimeUnavailableError
from pantala_peer.images.helper import RuntimeHelper
from pantala_peer.images.ledger import Ledger, LedgerContent, LedgerEntry, LedgerFile, OrderedImage
from pantala_peer.mirror.grants import USER, PullGrants
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_pieces.errors import StoreError
from pantala_process.backoff import pause_until
from pantala_process.flight import cancel_all
from pantala_protocol.images import Depth, NodeOrder
from pantala_protocol.runtime import PullCredentials, RuntimeImage

_PARALLEL = 8
"""The most orders that run at once. The operator gives far fewer, so this protects the node only from a bug."""

_LOOK = 30.0
"""Seconds between two checks of the ready images."""

_PROGRESS = 2.0
"""Seconds between two reports on the progress of a pull."""

log = structlog.get_logger()


class ImageOrders:
    """Carries out the orders.

    ``mirror_url`` returns the URL at which containerd reaches the mirror (``None`` without a mirror). ``wall`` returns
    seconds since the epoch. ``keep`` is called with the tasks of all blobs that orders keep in the cache. ``pinned`` is
    called with True if the runtime honours a pin.
    """

    def __init__(
        self,
        file: LedgerFile,
        helper: RuntimeHelper,
        cache: CachedImages,
        grants: PullGrants,
        supernodes: SupernodeSessions,
        *,
        mirror_url: Callable[[], str | None],
        wall: Callable[[], float],
        events: PeerEvents,
        keep: Callable[[set[str]], None],
        pinned: Callable[[bool], None],
    ) -> None:
        self.ledger = Ledger()
        self._file = file
        self._helper = helper
        self._cache = cache
        self._grants = grants
        self._supernodes = supernodes
        self._mirror_url = mirror_url
        self._wall = wall
        self._keep = keep
        self._pinned = pinned
        self._slots = asyncio.Semaphore(_PARALLEL)
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._counts: dict[str, Callable[[], int]] = {}
        self._dirty = asyncio.Event()
        self._look_now = asyncio.Event()
        self._written: LedgerContent | None = None
        events.subscribe(ImagesOrdered, self._on_orders)

    async def open(self) -> None:
        """Read the orders of an earlier process. Raises :class:`StoreError`."""
        self.ledger = await asyncio.to_thread(self._file.read)
        self._written = self.ledger.render()
        self._keep(self.ledger.kept_tasks())

    def _on_orders(self, event: ImagesOrdered) -> None:
        orders = event.orders
        changes = self.ledger.apply(orders, self._now())
        for key in [*changes.ended, *changes.started]:
            if key in self._jobs:
                self._jobs.pop(key).cancel()
                self._counts.pop(key, None)
        for key in changes.started:
            self._start(key)
        if changes.started or changes.ended:
            log.info("received orders for images", revision=orders.revision, begun=changes.started, ended=changes.ended)
            self._keep(self.ledger.kept_tasks())
        self._changed()

    async def run(self) -> None:
        """Carry out orders, check ready images and write the ledger, until cancelled."""
        for key in self.ledger.unfinished():
            if key not in self._jobs:
                self._start(key)
        self._changed()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_looking())
                group.create_task(self._keep_counting())
                group.create_task(self._keep_writing())
        finally:
            await cancel_all(self._jobs.values())

    # One order

    def _start(self, key: str) -> None:
        job = self._jobs[key] = asyncio.create_task(self._carry_out(key, self.ledger.entries[key].order))
        job.add_done_callback(lambda done: self._on_done(key, done))

    def _on_done(self, key: str, job: asyncio.Task[None]) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]
        if not job.cancelled() and (error := job.exception()) is not None:
            job.get_loop().call_exception_handler({"message": "a bug ended an image order", "exception": error})

    async def _carry_out(self, key: str, order: NodeOrder) -> None:
        try:
            async with self._slots:
                if order.depth is Depth.PEER:
                    await self._fill_cache(order)
                elif order.depth is Depth.UNKNOWN:
                    raise InvalidOrderError(f"the depth of the order for {order.image} is not known; update the peer")
                else:
                    await self._fill_runtime(order)
        except OrderError as error:
            log.warning("an image order failed", key=key, image=order.image, reason=error.reason, error=str(error))
            self.ledger.failed(key, error.reason, str(error), self._now())
        else:
            log.info("an image is ready", key=key, image=order.image)
            self.ledger.ready(key, self._now())
        self._changed()

    async def _fill_runtime(self, order: NodeOrder) -> None:
        wanted = OrderedImage.of(order)
        if _find(await self._helper.images(), wanted) is None:
            await self._pull(order, wanted)
        if wanted.tagged:
            await self._helper.name(wanted.pinned, wanted.tagged)

    async def _pull(self, order: NodeOrder, wanted: OrderedImage) -> None:
        timeout, url = order.order.timeout, self._mirror_url()
        if url is None:
            await self._helper.pull(wanted.pinned, timeout=timeout, credentials=None)
            return
        with self._grants.open(order.key, str(wanted.repository)) as grant:
            credentials = PullCredentials(USER, grant.password, url)
            with self._counting(order.key, lambda: grant.bytes):
                await self._helper.pull(wanted.pinned, timeout=timeout, credentials=credentials)

    async def _fill_cache(self, order: NodeOrder) -> None:
        before = self._cache.bytes(order)
        with self._counting(order.key, lambda: max(0, self._cache.bytes(order) - before)):
            try:
                async with asyncio.timeout(order.order.timeout):
                    await self._cache.fetch(order)
            except TimeoutError:
                raise OrderTimeoutError(
                    f"{order.image}: the peer's cache lacks blobs after {order.order.timeout} s"
                ) from None

    @contextlib.contextmanager
    def _counting(self, key: str, count: Callable[[], int]) -> Iterator[None]:
        """Inside the block, report every few seconds how many bytes have arrived, and once more at the end."""
        self._counts[key] = count
        try:
            yield
        finally:
            if self._counts.get(key) is count:  # otherwise another order has replaced this one
                del self._counts[key]
                if key in self.ledger.entries:
                    self.ledger.fetched(key, count())

    async def _keep_counting(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS)
            counted = {key: count() for key, count in self._counts.items() if key in self.ledger.entries}
            if {key for key, count in counted.items() if self.ledger.fetched(key, count)}:
                self._supernodes.report_pulls(self.ledger.states(), urgent=False)

    # Ready images

    async def _keep_looking(self) -> None:
        while True:
            self._look_now.clear()
            try:
                await self._look()
            except OrderError as error:
                log.info("cannot list the images of the container runtime; trying again", error=str(error))
            await pause_until(self._look_now, _LOOK)

    async def _look(self) -> None:
        """Check that ready images are still on the node, restore tags that no image has, and restore pins."""
        for entry in self.ledger.ready_entries(Depth.PEER):
            if not self._cache.holds(entry.order):
                self._lose(entry)
        ready = self.ledger.ready_entries(Depth.RUNTIME)
        if ready or self.ledger.pins:
            here = await self._helper.images()
            for entry in ready:
                image = _find(here, OrderedImage.of(entry.order))
                if image is None:
                    self._lose(entry)
                elif self._is_current(entry):
                    try:
                        await self._tend(entry, image, here)
                    except (RuntimeUnavailableError, OrderTimeoutError):
                        raise
                    except OrderError as error:
                        log.warning(
                            "cannot restore the tag or the pin of an image; trying again",
                            image=entry.order.image,
                            error=str(error),
                        )
            await self._unpin()

    def _is_current(self, entry: LedgerEntry) -> bool:
        return self.ledger.entries.get(entry.order.key) == entry

    def _lose(self, entry: LedgerEntry) -> None:
        if self._is_current(entry):
            log.warning("an ordered image is no longer on the node", key=entry.order.key, image=entry.order.image)
            self.ledger.gone(entry.order.key, self._now())
            self._changed(look=False)

    async def _tend(self, entry: LedgerEntry, image: RuntimeImage, here: list[RuntimeImage]) -> None:
        wanted = OrderedImage.of(entry.order)
        # If another image has the tag, another program has pulled it since then, so the tag may have moved.
        if wanted.tagged and not any(wanted.tagged in each.tags for each in here):
            await self._helper.name(wanted.pinned, wanted.tagged)
        if entry.order.pin and (wanted.pinned not in self.ledger.pins or not image.pinned):
            self.ledger.pins.add(wanted.pinned)
            self._dirty.set()
            honoured = await self._helper.pin(wanted.pinned)
            if not honoured:
                log.info("the container runtime ignores pins, so the kubelet may remove the image", image=wanted.pinned)
            self._pinned(honoured)

    async def _unpin(self) -> None:
        """Unpin images that no order pins any more."""
        wanted: set[str] = set()
        for entry in self.ledger.entries.values():
            if entry.order.pin and entry.order.depth is Depth.RUNTIME:
                with contextlib.suppress(InvalidOrderError):
                    wanted.add(OrderedImage.of(entry.order).pinned)
        for image in sorted(self.ledger.pins - wanted):
            try:
                await self._helper.unpin(image)
            except OrderError as error:
                if error.reason != "NotFound":
                    raise
            self.ledger.pins.discard(image)
            self._dirty.set()

    # Reports and the file

    def _changed(self, *, look: bool = True) -> None:
        self._supernodes.report_pulls(self.ledger.states(), urgent=True)
        self._dirty.set()
        if look:
            self._look_now.set()

    async def _keep_writing(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            content = self.ledger.render()
            if content == self._written:
                continue
            try:
                await asyncio.to_thread(self._file.write, content)
                self._written = content
            except StoreError as error:
                log.warning("the peer cannot save its orders for images; it tries again in 30 s", error=str(error))
                await asyncio.sleep(_LOOK)
                self._dirty.set()

    def _now(self) -> int:
        return int(self._wall())


def _find(here: list[RuntimeImage], wanted: OrderedImage) -> RuntimeImage | None:
    return next((image for image in here if wanted.pinned in image.digests), None)
