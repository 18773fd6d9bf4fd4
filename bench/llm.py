"""Measures a language-model engine and prints a table: `python -m bench.llm [flags of unmute llm]`.

Times depend on the machine and on what else runs; tokens, counts and ratios do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from rich.console import Console
from rich.table import Table

from llm_service.engine import Engine, Finished, Message, Request, Role, Sampling, Session, TextDelta, Usage
from llm_service.engines import create_engine
from llm_service.engines.llama_cpp import LlamaCppEngine
from llm_service.server import LlmService
from llm_service.settings import LlmSettings
from mesh.channels import open_channel
from mesh.interceptors import MeshInterceptor
from mesh.settings import load_settings
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc

RULE = "You are a helpful assistant who talks with people by voice. Answer in one short sentence. "
QUESTION = "What is the largest ocean on Earth?"
AT_ONCE = (1, 4, 16)
PAIRS = 20
FEWEST_PAIRS = 5
PAIRS_SECONDS = 30.0


@dataclass
class Run:
    """One answer, timed."""

    first: float = 0.0
    """Seconds to the first text."""
    gaps: float = 0.0
    """Seconds from the first text to the end."""
    texts: int = 0
    usage: Usage = field(default_factory=Usage)

    @property
    def total(self) -> float:
        """Seconds of the whole answer."""
        return self.first + self.gaps

    @property
    def rate(self) -> float:
        """Tokens per second, the first not counted."""
        return (self.usage.output_tokens - 1) / self.gaps if self.gaps else 0.0


def make_request(system: str, limit: int = 24) -> Request:
    """Returns a question after a system prompt."""
    messages = (Message(Role.SYSTEM, system), Message(Role.USER, QUESTION))
    return Request(messages, sampling=Sampling(temperature=0.0, max_output_tokens=limit))


async def run_engine(session: Session, request: Request) -> Run:
    """Times an answer of the bare engine."""
    run, began = Run(), time.perf_counter()
    async for event in session.generate(request):
        if isinstance(event, TextDelta):
            run.first = run.first or time.perf_counter() - began
            run.texts += 1
        elif isinstance(event, Finished):
            run.usage = event.usage
    run.gaps = time.perf_counter() - began - run.first
    return run


async def run_grpc(call: Any, request: Request) -> Run:
    """Times the same answer through gRPC."""
    roles = {Role.SYSTEM: llm_pb2.ROLE_SYSTEM, Role.USER: llm_pb2.ROLE_USER}
    start = llm_pb2.Start(
        messages=[llm_pb2.Message(role=roles[message.role], text=message.text) for message in request.messages],
        sampling=llm_pb2.SamplingParams(temperature=0.0, max_output_tokens=request.sampling.max_output_tokens),
    )
    run, began = Run(), time.perf_counter()
    await call.write(llm_pb2.GenerateRequest(generate=start))
    while (response := await call.read()) is not grpc.aio.EOF:
        match response.WhichOneof("event"):
            case "text":
                run.first = run.first or time.perf_counter() - began
                run.texts += 1
            case "finished":
                usage = response.finished.usage
                run.usage = Usage(usage.input_token_count, usage.cached_token_count, usage.output_token_count)
                break
    run.gaps = time.perf_counter() - began - run.first
    return run


async def measure_prompts(engine: Engine, table: Table) -> None:
    """First text with a system prompt of some 500 tokens: cold, known, read before, known to another session."""
    system = RULE * 26
    first, second = await engine.open(), await engine.open()
    cold = await run_engine(first, make_request(system))
    row(table, f"first text, {cold.usage.input_tokens} tokens, cold", cold.first * 1e3, "ms", cached(cold))
    warm = [await run_engine(first, make_request(system)) for _ in range(5)]
    row(table, "first text, same session again", 1e3 * median(run.first for run in warm), "ms", cached(warm[-1]))
    other = await run_engine(second, make_request(system))
    row(table, "first text, another session, same system prompt", other.first * 1e3, "ms", cached(other))
    request = make_request("Your name is Ava. " + system)
    began = time.perf_counter()
    await first.prefill(request.messages[:1])
    note = "while the user still speaks" if engine.capabilities.prefix_cache else "this engine reads none"
    row(table, "reading a prefix", (time.perf_counter() - began) * 1e3, "ms", note)
    after = await run_engine(first, request)
    row(table, "first text after that prefix", after.first * 1e3, "ms", cached(after))
    reading = asyncio.create_task(first.prefill(make_request("No. " + system).messages))
    await asyncio.sleep(0.5)
    hurried = await run_engine(first, make_request("Be brief."))
    await reading
    row(table, "first text while another prefix is read", hurried.first * 1e3, "ms", "the reading is given up")
    await first.close()
    await second.close()


async def measure_rates(engine: Engine, table: Table) -> None:
    """Tokens per second and first text, with ever more sessions at once."""
    for count in (count for count in AT_ONCE if count <= engine.capabilities.slots):
        sessions = [await engine.open() for _ in range(count)]
        request = make_request("Tell long stories.", 64)
        for session in sessions:
            await run_engine(session, make_request("Tell long stories.", 2))
        began = time.perf_counter()
        runs = await asyncio.gather(*(run_engine(session, request) for session in sessions))
        total = sum(run.usage.output_tokens for run in runs) / (time.perf_counter() - began)
        name = f"{count} at once" if count > 1 else "one session"
        note = f"each {median(run.rate for run in runs):.1f}, slowest {min(run.rate for run in runs):.1f}"
        row(table, f"decoding, {name}", total, "tokens/s", note if count > 1 else "")
        firsts = [1e3 * run.first for run in runs]
        row(table, f"first text, {name}, prompt known", median(firsts), "ms", f"at most {max(firsts):.0f} ms")
        for session in sessions:
            await session.close()


async def measure_stops(engine: Engine, table: Table) -> None:
    """From `stop` to `Finished`, to the free slot, and what was still generated."""
    session = await engine.open()
    finished, freed, late = [], [], 0
    for _ in range(10):
        events = session.generate(make_request("Tell a very long story about everything.", 400))
        async for event in events:
            if isinstance(event, TextDelta):
                break
        began = time.perf_counter()
        running = engine.running if isinstance(engine, LlamaCppEngine) else ()
        await session.stop()
        async for event in events:
            assert isinstance(event, Finished)  # noqa: S101 - nothing else may come
        finished.append(time.perf_counter() - began)
        for completion in running:
            await completion.done.wait()
            late = max(late, completion.late_chunks)
        freed.append(time.perf_counter() - began)
        assert not engine.used_slots  # noqa: S101 - free is free
    row(table, "stop to finished", 1e3 * median(finished), "ms", f"at most {1e3 * max(finished):.1f} ms")
    row(table, "stop to free slot", 1e3 * median(freed), "ms", f"at most {1e3 * max(freed):.1f} ms")
    if isinstance(engine, LlamaCppEngine):
        row(table, "tokens after stop", late, "", "worst of 10; not sent")
    await session.close()


async def measure_grpc(engine: Engine, table: Table) -> None:
    """What gRPC adds to an answer of the bare engine: pairs, so that both see the same machine."""
    request = make_request("Be brief.", 48)
    session = await engine.open()
    bare: list[Run] = []
    served: list[Run] = []
    async with serving(engine) as stub:
        call = stub.Generate()
        await run_engine(session, request)
        await run_grpc(call, request)
        began = time.perf_counter()
        while len(bare) < FEWEST_PAIRS or (len(bare) < PAIRS and time.perf_counter() - began < PAIRS_SECONDS):
            bare.append(await run_engine(session, request))
            served.append(await run_grpc(call, request))
        call.cancel()
    await session.close()
    for name, runs in (("bare engine", bare), ("through gRPC", served)):
        row(table, f"first text, {name}", 1e3 * median(run.first for run in runs), "ms", cached(runs[-1]))
        row(table, f"whole answer, {name}", 1e3 * median(run.total for run in runs), "ms")
    first = 1e3 * (median(run.first for run in served) - median(run.first for run in bare))
    whole = median(run.total for run in served) / median(run.total for run in bare) - 1
    row(table, "gRPC's share of the first text", first, "ms", f"median of {len(bare)} pairs; aim: at most 2 ms")
    row(table, "gRPC's share of the whole answer", 100 * whole, "%", "aim: at most 3 %")


@asynccontextmanager
async def serving(engine: Engine) -> AsyncIterator[Any]:
    """Serves `engine` on a Unix socket; yields a stub."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{Path(folder) / 's'}"
        server = grpc.aio.server(interceptors=[MeshInterceptor("llm")])
        LlmService(engine).register(server)
        server.add_insecure_port(address)
        await server.start()
        async with open_channel(address) as channel:
            yield llm_pb2_grpc.LlmServiceStub(channel)
        await server.stop(0)


def median(values: Any) -> float:
    """Returns the median of numbers."""
    return float(statistics.median(values))


def memory(process: psutil.Process) -> int:
    """Returns the bytes of `process` and of those it has started, shared pages counted once each."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total


def cached(run: Run) -> str:
    """Says how much of the prompt was known."""
    return f"{run.usage.cached_tokens} of {run.usage.input_tokens} tokens cached"


def row(table: Table, name: str, value: float, unit: str, note: str = "") -> None:
    """Adds a line."""
    table.add_row(name, f"{value:.1f}" if unit else f"{value:g}", unit, note)


async def main() -> None:
    """Runs all measurements."""
    settings = load_settings(LlmSettings, sys.argv[1:], "bench.llm")
    if settings.slots is None and settings.max_num_seqs is None:
        settings.slots = max(AT_ONCE)
    process = psutil.Process()
    before = memory(process)
    engine = create_engine(settings)
    began = time.perf_counter()
    await engine.start()
    table = Table("what", "value", "unit", "note", title=f"{settings.engine}, {engine.capabilities.models[0].id}")
    row(table, "load", time.perf_counter() - began, "s")
    await measure_prompts(engine, table)
    await measure_rates(engine, table)
    await measure_stops(engine, table)
    await measure_grpc(engine, table)
    row(table, "memory of engine and model", (memory(process) - before) / 2**20, "MiB")
    began = time.perf_counter()
    await engine.close()
    row(table, "close", (time.perf_counter() - began) * 1e3, "ms")
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
