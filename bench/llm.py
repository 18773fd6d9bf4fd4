"""Measures the embedded language model and prints a table: `python -m bench.llm`.

Times depend on the machine and on what else runs; tokens, counts and ratios do not.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
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

from llm_service.engine import Finished, Message, Request, Role, Sampling, Session, TextDelta, Usage
from llm_service.engines.llama_cpp import LlamaCppEngine, create
from llm_service.server import LlmService
from llm_service.settings import LlmSettings
from mesh.channels import open_channel
from mesh.interceptors import MeshInterceptor
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc

RULE = "You are a helpful assistant who talks with people by voice. Answer in one short sentence. "
QUESTION = "What is the largest ocean on Earth?"


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


async def measure_prompts(engine: LlamaCppEngine, table: Table) -> None:
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
    row(table, "reading a prefix", (time.perf_counter() - began) * 1e3, "ms", "while the user still speaks")
    after = await run_engine(first, request)
    row(table, "first text after that prefix", after.first * 1e3, "ms", cached(after))
    reading = asyncio.create_task(first.prefill(make_request("No. " + system).messages))
    await asyncio.sleep(0.5)
    hurried = await run_engine(first, make_request("Be brief."))
    await reading
    row(table, "first text while another prefix is read", hurried.first * 1e3, "ms", "the reading is given up")
    await first.close()
    await second.close()


async def measure_rates(engine: LlamaCppEngine, table: Table) -> None:
    """Tokens per second, alone and with all slots at work."""
    sessions = [await engine.open() for _ in range(engine.capabilities.slots)]
    request = make_request("Tell long stories.", 96)
    alone = [await run_engine(sessions[0], request) for _ in range(3)]
    row(table, "decoding, one session", median(run.rate for run in alone), "tokens/s")
    for session in sessions:
        await run_engine(session, make_request("Tell long stories.", 2))
    began = time.perf_counter()
    runs = await asyncio.gather(*(run_engine(session, request) for session in sessions))
    total = sum(run.usage.output_tokens for run in runs) / (time.perf_counter() - began)
    row(table, f"decoding, {len(sessions)} sessions together", total, "tokens/s")
    row(table, "decoding, each of them", median(run.rate for run in runs), "tokens/s")
    for session in sessions:
        await session.close()


async def measure_stops(engine: LlamaCppEngine, table: Table) -> None:
    """From `stop` to `Finished`, to the free slot, and what was still generated."""
    session = await engine.open()
    finished, freed, late = [], [], 0
    for _ in range(10):
        events = session.generate(make_request("Tell a very long story about everything.", 400))
        async for event in events:
            if isinstance(event, TextDelta):
                break
        began = time.perf_counter()
        (completion,) = engine.running
        await session.stop()
        async for event in events:
            assert isinstance(event, Finished)  # noqa: S101 - nothing else may come
        finished.append(time.perf_counter() - began)
        await completion.done.wait()
        freed.append(time.perf_counter() - began)
        late = max(late, completion.late_chunks)
    row(table, "stop to finished", 1e3 * median(finished), "ms", "median of 10")
    row(table, "stop to free slot", 1e3 * median(freed), "ms", f"at most {1e3 * max(freed):.1f} ms")
    row(table, "tokens after stop", late, "", "worst of 10; not sent")
    await session.close()


async def measure_grpc(engine: LlamaCppEngine, table: Table) -> None:
    """What gRPC adds to an answer of the bare engine."""
    request = make_request("Be brief.", 48)
    session = await engine.open()
    await run_engine(session, request)
    bare = [await run_engine(session, request) for _ in range(10)]
    await session.close()
    async with serving(engine) as stub:
        call = stub.Generate()
        await run_grpc(call, request)
        served = [await run_grpc(call, request) for _ in range(10)]
        call.cancel()
    for name, runs in (("bare engine", bare), ("through gRPC", served)):
        row(table, f"first text, {name}", 1e3 * median(run.first for run in runs), "ms", cached(runs[-1]))
        row(table, f"whole answer, {name}", 1e3 * median(run.first + run.gaps for run in runs), "ms")


@asynccontextmanager
async def serving(engine: LlamaCppEngine) -> AsyncIterator[Any]:
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


def cached(run: Run) -> str:
    """Says how much of the prompt was known."""
    return f"{run.usage.cached_tokens} of {run.usage.input_tokens} tokens cached"


def row(table: Table, name: str, value: float, unit: str, note: str = "") -> None:
    """Adds a line."""
    table.add_row(name, f"{value:.1f}" if unit else f"{value:g}", unit, note)


async def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a GGUF file instead of the embedded model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=4)
    options = parser.parse_args()
    process = psutil.Process()
    before = process.memory_info().rss
    settings = LlmSettings(model=options.model, threads=options.threads, slots=options.slots)
    engine = create(settings)
    began = time.perf_counter()
    await engine.start()
    table = Table(
        "what", "value", "unit", "note", title=f"{engine.capabilities.models[0].id}, {options.threads} thread(s)"
    )
    row(table, "load", time.perf_counter() - began, "s", "weights verified before")
    await measure_prompts(engine, table)
    await measure_rates(engine, table)
    await measure_stops(engine, table)
    await measure_grpc(engine, table)
    row(table, "memory of engine and model", (process.memory_info().rss - before) / 2**20, "MiB")
    began = time.perf_counter()
    await engine.close()
    row(table, "close", (time.perf_counter() - began) * 1e3, "ms")
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
