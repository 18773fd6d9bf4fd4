"""What the gateway costs: real services and a real orchestrator with engines that take no time, talked to both ways.

    python -m bench.gateway latency    # what it adds over a direct Converse client
    python -m bench.gateway capacity   # how many conversations one core of it holds

The gateway has one core to itself, the orchestrator another, the services a third, and the clients a fourth.
`latency` asks each way in turn: `input_audio_buffer.clear` until it is answered, which goes to the orchestrator and
back and needs no model, and a typed question until its first audio. `capacity` is `unmute loadtest` through the
gateway: every conversation speaks for 1.2 s, is answered for 1.7 s and thinks for about half a second, in messages of
80 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from bench.machine import cores, describe
from bench.mesh import EXPLAIN, SPEECH_SECONDS, Cores, Measured, measure
from bench.zero_processes import ZeroProcesses
from gateway.translate.session import default_config
from loadtest.speech import RATE
from mesh.audio import write_wav
from mesh.channels import open_channel
from mesh.http import answers_http
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

START_SECONDS = 60.0
ANSWER_SECONDS = 20.0
AIM_ADDED, AIM_CONVERSATIONS = 0.003, 60
QUESTION = "please answer"


@dataclass(frozen=True)
class GatewayCores(Cores):
    """Who runs where, the gateway too."""

    gateway: list[int]

    def __str__(self) -> str:
        """Tells it in a title."""
        return f"gateway on core {self.gateway}, {super().__str__()}"


def share_cores() -> GatewayCores:
    """Returns one core for the gateway, one for the orchestrator, one for the services, the rest for the clients."""
    all_cores = cores()
    if len(all_cores) < 4:
        raise SystemExit("at least four cores are needed: one for the gateway alone, three for the rest")
    first, second, third, *rest = all_cores
    return GatewayCores([second], [third], rest, gateway=[first])


Ask = Callable[[], Awaitable[None]]


@asynccontextmanager
async def gateway(orchestrator: str, core: list[int]) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Runs a gateway on a core of its own; yields its WebSocket's address and its process."""
    port = 18_799
    command = ["-m", "mesh", "gateway", "--port", str(port), "--orchestrator", orchestrator, "--log-level", "ERROR"]
    flags = ["--max-sessions", "10000", "--messages-per-second", "10000"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, *flags)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, core)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not await answers_http(f"127.0.0.1:{port}", "/healthz", 1.0):
            if process.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError("the gateway does not serve")
            await asyncio.sleep(0.1)
        yield f"ws://127.0.0.1:{port}/v1/realtime?model=any", psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


# ---------------------------------------------------------------- latency


class Direct:
    """A client of Converse."""

    def __init__(self, call: Any) -> None:
        """`call` has begun."""
        self._call = call

    async def _until(self, kind: str) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            while (await self._call.read()).WhichOneof("event") != kind:
                pass

    async def clear(self) -> None:
        """To the orchestrator and back."""
        await self._call.write(pb.ConverseRequest(input_audio_clear=pb.InputAudioClear()))
        await self._until("input_audio_cleared")

    async def question(self) -> None:
        """Until the first audio."""
        message = pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(text=QUESTION)])
        await self._call.write(pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(message=message))))
        await self._call.write(pb.ConverseRequest(response_create=pb.ResponseCreate()))
        await self._until("output_audio_delta")

    async def rest(self) -> None:
        """Until the answer is over."""
        await self._until("response_done")


class Through:
    """A client of the gateway."""

    def __init__(self, socket: ClientConnection) -> None:
        """`socket` is connected."""
        self._socket = socket

    async def send(self, kind: str, **fields: Any) -> None:
        """Sends an event."""
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str) -> None:
        """Reads until an event of a kind."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while json.loads(await self._socket.recv())["type"] != kind:
                pass

    async def clear(self) -> None:
        """To the orchestrator and back."""
        await self.send("input_audio_buffer.clear")
        await self.until("input_audio_buffer.cleared")

    async def question(self) -> None:
        """Until the first audio."""
        content = [{"type": "input_text", "text": QUESTION}]
        await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await self.send("response.create")
        await self.until("response.output_audio.delta")

    async def rest(self) -> None:
        """Until the answer is over."""
        await self.until("response.done")


async def _timed(ask: Ask) -> float:
    began = time.perf_counter()
    await ask()
    return time.perf_counter() - began


async def latency(where: GatewayCores, console: Console, given: argparse.Namespace) -> bool:
    """Prints what the gateway adds; returns whether it keeps the aim."""
    config = default_config("Be brief.")
    config.turn_detection.manual.SetInParent()
    times: dict[tuple[str, str], list[float]] = {}
    async with (
        ZeroProcesses(services_on=where.services, orchestrator_on=where.orchestrator) as mesh,
        gateway(mesh.addresses["orchestrator"], where.gateway) as (url, _),
        open_channel(mesh.addresses["orchestrator"]) as channel,
        connect(url) as socket,
    ):
        stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
        call = stub.Converse()
        await call.write(pb.ConverseRequest(session_update=pb.SessionUpdate(session=config)))
        await call.read()
        through = Through(socket)
        manual = {"input": {"turn_detection": None}}
        await through.send("session.update", session={"type": "realtime", "instructions": "Be brief.", "audio": manual})
        await through.until("session.updated")
        ways: dict[str, Direct | Through] = {"direct": Direct(call), "gateway": through}
        for turn in range(given.samples + 20):
            for name, way in ways.items():
                found = {"round trip": await _timed(way.clear)}
                if turn % 5 == 0:
                    found["first audio"] = await _timed(way.question)
                    await way.rest()
                if turn >= 20:  # the first ones warm up
                    for what, seconds in found.items():
                        times.setdefault((what, name), []).append(seconds)
        call.cancel()
    table = Table("", "direct p50 / p95", "gateway p50 / p95", "added p50", title=f"Added\n{given.machine}\n{where}")
    kept = True
    for what in ("round trip", "first audio"):
        direct, through_it = times[what, "direct"], times[what, "gateway"]
        added = statistics.median(through_it) - statistics.median(direct)
        kept = kept and added <= AIM_ADDED
        table.add_row(what, _spread(direct), _spread(through_it), f"{added * 1000:.2f} ms")
    console.print(table)
    console.print(f"aim: at most {AIM_ADDED * 1000:g} ms added at the median: {'kept' if kept else 'missed'}")
    return kept


def _spread(seconds: list[float]) -> str:
    p50, p95 = np.percentile(seconds, [50, 95])
    return f"{p50 * 1000:.2f} / {p95 * 1000:.2f} ms"


# ---------------------------------------------------------------- capacity


async def capacity(where: GatewayCores, console: Console, given: argparse.Namespace) -> bool:
    """Prints what more and more conversations take; returns whether the aim is kept."""
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "explain.wav"
        write_wav(speech, np.full(round(SPEECH_SECONDS * RATE), EXPLAIN, np.float32), RATE)
        async with (
            ZeroProcesses(services_on=where.services, orchestrator_on=where.orchestrator) as mesh,
            gateway(mesh.addresses["orchestrator"], where.gateway) as (url, process),
        ):
            for conversations in given.steps:
                row = await measure(
                    mesh,
                    speech,
                    where,
                    console,
                    conversations=conversations,
                    seconds=given.seconds,
                    url=url,
                    watched=process,
                )
                rows.append(row)
    table = Table(
        "conversations",
        "turns",
        "answer p50",
        "p95",
        "client's lag p99",
        "bad",
        "gaps",
        "the gateway's core",
        title=f"Conversations on one core of a gateway\n{given.machine}\n{where}",
    )
    for row in rows:
        answer, lag, counts = row.report.stages.get("answer"), row.report.client_lag, row.report.counts
        times = ["-"] * 2 if answer is None else [f"{x * 1000:.0f} ms" for x in (answer.p50, answer.p95)]
        late = "-" if lag is None else f"{lag.p99 * 1000:.0f} ms"
        bad = counts.failed + counts.stuck + counts.early
        cells = [row.conversations, counts.turns, *times, late, bad, counts.gaps, f"{row.busy:.0%}"]
        table.add_row(*map(str, cells))
    console.print(table)
    held = max((row.conversations for row in rows if row.report.clean and row.busy < 0.95), default=0)
    console.print(f"held: {held} conversations (aim: {AIM_CONVERSATIONS})")
    return held >= AIM_CONVERSATIONS


def main() -> int:
    """Prints one table; returns 0 if it keeps the aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["latency", "capacity"])
    parser.add_argument("--samples", type=int, default=500, help="of latency")
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 40, 60, 80], help="of capacity")
    given = parser.parse_args()
    where, console = share_cores(), Console(width=130)
    given.machine = describe()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, where.clients)
    return 0 if asyncio.run({"latency": latency, "capacity": capacity}[given.table](where, console, given)) else 1


if __name__ == "__main__":
    sys.exit(main())
