"""The backends of one service, and the calls that are open to each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mesh.backends.addresses import Endpoint, Resolver
from mesh.backends.choice import View, order
from mesh.backends.link import Link, Load, StalledError
from mesh.channels import HealthState
from mesh.errors import MeshError, ResourceExhaustedError, UnavailableError

_log = logging.getLogger(__name__)

T = TypeVar("T")
Connect = Callable[[Endpoint], Link]

RESOLVE_SECONDS = 10.0
"""Between two look-ups of the backends; after a failure it is done at once, but not more often than each second."""
RESOLVE_AGAIN_SECONDS = 1.0
LOAD_SECONDS = 1.0
"""Between two questions how busy a backend is."""
STALL_SECONDS = 2.0
"""A backend that has not answered such a question by then has stalled."""
FAILED_SECONDS = 1.0
"""So long after a failed call others are better; what is wrong, its health tells soon."""
MAX_FULL_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class Backend:
    """One backend, as the pool knows it."""

    endpoint: Endpoint
    link: Link
    state: HealthState | None = None
    """None: it has not answered yet."""
    stalled: bool = False
    """Its connection stands, but it does not answer."""
    load: Load | None = None
    """What it said last; None: nothing."""
    begun: int = 0
    """Slots taken here less slots freed, since it was asked for its load."""
    calls: int = 0
    """Calls that are open from here."""
    full_until: float = 0.0
    failed_until: float = 0.0
    leaving: bool = False
    """It drains, or is not listed any more: what lasts long should move."""
    ask_now: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it serves anew: how busy it is, is asked at once."""
    listed: bool = True
    keeper: asyncio.Task[None] | None = None

    @property
    def target(self) -> str:
        """Where it is."""
        return self.endpoint.target

    @property
    def health(self) -> HealthState | None:
        """How it is: a backend that has stalled is down."""
        return HealthState.DOWN if self.stalled else self.state

    @property
    def view(self) -> View:
        """What the choice needs to know."""
        slots, used = (self.load.slots, max(0, self.load.used + self.begun)) if self.load else (0, 0)
        return View(self.target, self.health, slots, used, self.calls, self.full_until, self.failed_until)


class Lease:
    """One open call, counted for its backend until it is released."""

    def __init__(self, pool: Pool, backend: Backend, *, busy: bool) -> None:
        """Use `Pool.lease`."""
        self.backend = backend
        self._pool = pool
        self._busy = False
        self._open = True
        backend.calls += 1
        self.set_busy(busy)

    def set_busy(self, busy: bool) -> None:
        """Says whether the call takes a slot now."""
        if self._open and busy != self._busy:
            self._busy = busy
            self.backend.begun += 1 if busy else -1

    def failed(self, error: MeshError) -> None:
        """The backend has refused or broken the call."""
        if self._open:
            self._pool.failed(self.backend, error)

    async def wait_until_leaving(self) -> None:
        """Returns when the backend drains, or is not listed any more, and another one serves."""
        await self._pool.wait_until_leaving(self.backend)

    async def wait_until_lost(self) -> None:
        """Returns when the backend is down or stalls, and another one serves."""
        await self._pool.wait_until_lost(self.backend)

    def release(self) -> None:
        """The call is over. May be called twice."""
        if self._open:
            self.set_busy(False)
            self._open = False
            self._pool.released(self.backend)


class Pool:
    """The backends of one service; belongs to the event loop."""

    def __init__(
        self, service: str, resolver: Resolver, connect: Connect, *, changed: Callable[[], None] | None = None
    ) -> None:
        """Knows no backend until it is started.

        Args:
            service: short name, as `stt`, for messages and reasons.
            resolver: finds the backends.
            connect: makes the connection to one.
            changed: called whenever the health of one has changed.
        """
        self.service = service
        self._resolver = resolver
        self._connect = connect
        self._changed = changed or (lambda: None)
        self._news = asyncio.Event()
        self._backends: dict[Endpoint, Backend] = {}
        self._left: set[Backend] = set()
        self._runner: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._resolved = asyncio.Event()
        self._look_again = asyncio.Event()
        self._turn = 0

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begins to look for backends and to watch them. Does nothing when it has begun."""
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name=f"{self.service}-backends")

    async def close(self) -> None:
        """Ends every connection."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait((self._runner,))
        for backend in (*self._backends.values(), *self._left):
            self._disconnect(backend)
        self._backends.clear()
        self._left.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    async def known(self) -> None:
        """Returns when the backends have been looked up once."""
        self.start()
        await self._resolved.wait()

    # ------------------------------------------------------------ what is there

    @property
    def backends(self) -> Sequence[Backend]:
        """Those that are listed now."""
        return tuple(self._backends.values())

    @property
    def state(self) -> HealthState:
        """SERVING if any backend is; else what is best."""
        states = {backend.health for backend in self._backends.values()}
        best = (HealthState.SERVING, HealthState.LOADING)
        return next((state for state in best if state in states), HealthState.DOWN)

    async def wait_until_serving(self) -> None:
        """Returns when a health check finds one SERVING, though it may have been thought so before."""
        while True:
            await self.known()
            checks = [asyncio.create_task(backend.link.wait_until_serving()) for backend in self.backends]
            if not checks:
                await asyncio.sleep(RESOLVE_AGAIN_SECONDS)
                continue
            try:
                # The backends may be others by then.
                done, _ = await asyncio.wait(checks, timeout=RESOLVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for check in checks:
                    check.cancel()
                await asyncio.wait(checks)
            if any(check.exception() is None for check in done):
                return

    async def wait_until_leaving(self, backend: Backend) -> None:
        """Returns when a backend drains, or is not listed any more, and another one serves."""
        while not (backend.leaving and self._has_other(backend)):
            await self._news.wait()

    async def wait_until_lost(self, backend: Backend) -> None:
        """Returns when a backend is down or stalls, and another one serves."""
        while not (backend.health is HealthState.DOWN and self._has_other(backend)):
            await self._news.wait()

    def _has_other(self, backend: Backend) -> bool:
        return any(other is not backend and other.health is HealthState.SERVING for other in self.backends)

    # ------------------------------------------------------------ choice

    def order(self, *, prefer: str = "", avoid: Collection[str] = ()) -> list[Backend]:
        """Returns the backends in the order in which a call should try them.

        Args:
            prefer: target of the backend that remembers something of the caller.
            avoid: targets to be tried last.
        """
        self._turn += 1
        by_target = {backend.target: backend for backend in self._backends.values()}
        views = [backend.view for backend in by_target.values()]
        now = asyncio.get_running_loop().time()
        return [by_target[target] for target in order(views, now, prefer=prefer, avoid=avoid, turn=self._turn)]

    def lease(self, backend: Backend, *, busy: bool = True) -> Lease:
        """Counts a call; `busy`: it takes a slot."""
        return Lease(self, backend, busy=busy)

    def released(self, backend: Backend) -> None:
        """A call to a backend is over."""
        backend.calls -= 1
        self._let_go(backend)

    def failed(self, backend: Backend, error: MeshError) -> None:
        """Takes to heart that a backend has refused or broken a call."""
        now = asyncio.get_running_loop().time()
        if isinstance(error, ResourceExhaustedError):
            backend.full_until = now + min(MAX_FULL_SECONDS, error.retry_delay)
        elif isinstance(error, UnavailableError):
            backend.failed_until = now + FAILED_SECONDS
            self._look_again.set()
            _log.info("%s at %s: %s", self.service, backend.target, error.message)

    async def first_answer(
        self,
        attempt: Callable[[Backend, float], Awaitable[T]],
        timeout: float,
        *,
        prefer: str = "",
        avoid: Collection[str] = (),
    ) -> T:
        """Tries one backend after the other until one takes the call.

        Args:
            attempt: makes the call to a backend, within some seconds.
            timeout: seconds for all attempts together.
            prefer: as in `order`.
            avoid: as in `order`.

        Raises:
            ResourceExhaustedError: at least one was full, and no other took it.
            UnavailableError: all are down, or too slow.
            MeshError: a backend has found fault with the call itself.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.known()
        candidates = self.order(prefer=prefer, avoid=avoid)
        errors: list[MeshError] = []
        for place, backend in enumerate(candidates):
            share = (deadline - loop.time()) / (len(candidates) - place)
            if errors and share <= 0:
                break
            try:
                return await attempt(backend, share)
            except (ResourceExhaustedError, UnavailableError) as error:
                self.failed(backend, error)
                errors.append(error)
        raise self.combined(errors)

    def combined(self, errors: Sequence[MeshError]) -> MeshError:
        """Returns what to say when no backend took a call: full is better news than down."""
        full = [error for error in errors if isinstance(error, ResourceExhaustedError)]
        if full:
            return min(full, key=lambda error: error.retry_delay)
        if errors:
            return errors[0]
        return UnavailableError(
            f"{self.service} service is down (no address was found)", reason=f"{self.service.upper()}_UNAVAILABLE"
        )

    # ------------------------------------------------------------ finding and watching

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._look_again.clear()
                self._list(await self._resolver.resolve(), group)
                self._resolved.set()
                if self._resolver.fixed:
                    return
                await asyncio.sleep(RESOLVE_AGAIN_SECONDS)
                if not self._backends:
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RESOLVE_SECONDS - RESOLVE_AGAIN_SECONDS):
                        await self._look_again.wait()

    def _list(self, endpoints: Sequence[Endpoint], group: asyncio.TaskGroup) -> None:
        for backend in self.backends:
            if backend.endpoint not in endpoints:
                self._drop(backend)
        for endpoint in endpoints:
            if endpoint not in self._backends:
                backend = self._backends[endpoint] = Backend(endpoint, self._connect(endpoint))
                backend.keeper = group.create_task(self._keep(backend))
                _log.debug("%s has a backend at %s", self.service, endpoint.target)

    def _drop(self, backend: Backend) -> None:
        """Lets a backend go: its open calls may end, new ones go elsewhere."""
        _log.info("%s has no backend at %s any more", self.service, backend.target)
        del self._backends[backend.endpoint]
        backend.listed = False
        backend.leaving = True
        if backend.keeper is not None:
            backend.keeper.cancel()
        self._left.add(backend)
        self._let_go(backend)
        self._tell()

    def _let_go(self, backend: Backend) -> None:
        """Ends the connection to a backend that is not listed any more, after its last call."""
        if not backend.listed and not backend.calls and backend in self._left:
            self._left.discard(backend)
            self._disconnect(backend)

    def _disconnect(self, backend: Backend) -> None:
        task = asyncio.create_task(backend.link.close(), name=f"{self.service}-disconnect")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
        self._changed()

    async def _keep(self, backend: Backend) -> None:
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch(backend))
                    group.create_task(self._ask(backend))
            except ExceptionGroup:
                # Whatever a broken backend answers must not end the watch of the others.
                _log.exception("%s at %s cannot be watched", self.service, backend.target)
                await asyncio.sleep(LOAD_SECONDS)

    async def _watch(self, backend: Backend) -> None:
        async for state in backend.link.states():
            if state is backend.state:
                continue
            before, backend.state = backend.state, state
            if state is HealthState.SERVING:
                backend.leaving = False
                backend.ask_now.set()
                if before is not None:
                    backend.failed_until = 0.0
            elif state is HealthState.LOADING and before is HealthState.SERVING:
                backend.leaving = True
            if before is not None or state is not HealthState.SERVING:
                _log.info("%s at %s is %s", self.service, backend.target, state.value)
            if state is HealthState.DOWN:
                backend.load = None
                self._look_again.set()
            self._tell()

    async def _ask(self, backend: Backend) -> None:
        while True:
            backend.ask_now.clear()
            begun = backend.begun
            was_stalled = backend.stalled
            try:
                load = await backend.link.load(STALL_SECONDS)
                backend.stalled = False
                if load is not None:
                    backend.load = load
                    backend.begun -= begun
            except StalledError:
                backend.stalled = True
            if backend.stalled is not was_stalled:
                _log.info("%s at %s %s", self.service, backend.target, "stalls" if backend.stalled else "answers again")
                self._tell()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOAD_SECONDS):
                    await backend.ask_now.wait()
