"""The streams of one program on the event loop: who holds which row, commands to it, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from mesh.batching.admission import Admission
from mesh.batching.guard import StepGuard
from mesh.batching.slots import Lease, SlotTable
from mesh.batching.thread import EngineThread, Program
from mesh.errors import MeshError, UnavailableError
from mesh.steps import StepReport


class Addressed(Protocol):
    """What a step gave one stream."""

    @property
    def lease(self) -> Lease:
        """Whose it is."""


OutputT = TypeVar("OutputT", bound=Addressed)
OutputT_co = TypeVar("OutputT_co", bound=Addressed, covariant=True)
OutputT_contra = TypeVar("OutputT_contra", bound=Addressed, contravariant=True)
RowT = TypeVar("RowT")
RowT_co = TypeVar("RowT_co", covariant=True)


class Tenant(Protocol[OutputT_contra]):
    """A stream as its batch sees it."""

    def take(self, output: OutputT_contra) -> None:
        """Takes what a step gave it."""
        ...

    def fail(self, error: MeshError) -> None:
        """Ends it with an error."""
        ...

    async def close(self) -> None:
        """Ends it."""
        ...


class RowProgram(Program[OutputT_co], Protocol[RowT_co, OutputT_co]):
    """A program with a row for each stream; every method runs on the engine thread."""

    def row(self, lease: Lease) -> RowT_co | None:
        """Returns the row of a stream; None once it was dropped or has ended."""
        ...

    def drop(self, lease: Lease) -> None:
        """Takes the row back; it stands still from now on."""
        ...


class Batch(Generic[RowT, OutputT]):
    """Streams that come and go in the rows of one program; belongs to the event loop."""

    def __init__(self, program: RowProgram[RowT, OutputT], *, name: str, size: int, max_step: float) -> None:
        """Makes the batch; `start` loads its program.

        Args:
            program: what steps the rows.
            name: of the thread, and of the engine in messages.
            size: rows.
            max_step: seconds that a step may take while another stream is admitted.
        """
        self._program = program
        self._table = SlotTable(size)
        self._guard = StepGuard(max_step)
        self._admission = Admission(self._table, self._guard)
        self._tenants: dict[Lease, Tenant[OutputT]] = {}
        self._thread: EngineThread[OutputT] = EngineThread(
            program, name=name, deliver=self._deliver, fail=self._fail, guard=self._guard
        )
        self._loading: asyncio.Future[None] | None = None
        self._open = False
        self.failed = asyncio.Event()
        """Set when the program has failed for good: the process should end and be started again."""

    @property
    def used(self) -> int:
        """Streams that hold a row."""
        return self._table.used

    def report_steps(self, report: StepReport) -> None:
        """Tells `report`, on the program's thread, how long each step took."""
        self._thread.report_steps(report)

    async def start(self) -> None:
        """Loads the program on its thread, once.

        Raises:
            MeshError: it cannot be loaded.
        """
        if self._loading is None:
            self._loading = asyncio.ensure_future(self._load())
        await self._loading

    def check(self) -> None:
        """Says whether a stream could be taken now.

        Raises:
            UnavailableError: the program is not loaded, was closed or has failed.
        """
        if self._thread.failed is not None:
            raise self._thread.failed
        if not self._open:
            raise UnavailableError("the engine is not started")

    async def acquire(self) -> Lease:
        """Leases a row for a stream that `admit` then takes.

        Raises:
            UnavailableError: as `check`.
            ResourceExhaustedError: no row came free in time, or the steps take too long already.
        """
        self.check()
        lease = await self._admission.acquire()
        try:
            self.check()
        except MeshError:
            self._admission.release(lease)
            raise
        return lease

    def admit(self, lease: Lease, tenant: Tenant[OutputT], command: Callable[[], None]) -> None:
        """Lets a stream into its row.

        Args:
            lease: of the row.
            tenant: the stream; it must `leave` when it ends.
            command: makes its row, on the engine thread.
        """
        self._tenants[lease] = tenant
        self._thread.post(command)

    def command(self, lease: Lease, command: Callable[[RowT], None]) -> None:
        """Runs `command` with the row of a stream on the engine thread, unless the stream is over."""
        self._thread.post(partial(self._with_row, lease, command))

    def leave(self, lease: Lease) -> None:
        """Gives a row back; it stands still before the next step. May be called twice."""
        if self._tenants.pop(lease, None) is None:
            return
        self._thread.post(partial(self._program.drop, lease))
        # After the command that drops the row: whoever gets the slot comes later in the queue.
        self._admission.release(lease)

    async def close(self) -> None:
        """Ends every stream and the thread, and frees the program. May be called twice."""
        self._open = False
        for tenant in list(self._tenants.values()):
            await tenant.close()
        await self._thread.close()

    async def _load(self) -> None:
        await self._thread.start()
        self._open = True

    def _with_row(self, lease: Lease, command: Callable[[RowT], None]) -> None:
        row = self._program.row(lease)
        if row is not None:
            command(row)

    def _deliver(self, outputs: Sequence[OutputT]) -> None:
        for output in outputs:
            tenant = self._tenants.get(output.lease)
            if tenant is not None:
                tenant.take(output)

    def _fail(self, error: MeshError) -> None:
        for tenant in self._tenants.values():
            tenant.fail(error)
        self.failed.set()
