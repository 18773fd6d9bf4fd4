"""Kyutai's speech to text: step time, flush and admission by batch size, through the engine's own runner and rows."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.kyutai_models import Roofline, Shape, bandwidth_of, build_codec, build_language_model, graphs
from mesh.batching import Lease
from mesh.kyutai import Footprint, Runtime
from stt_service.engine import EndOfTurn, StreamConfig
from stt_service.engines.kyutai.loading import Loaded, make_generator, measure, trim
from stt_service.engines.kyutai.program import ListeningProgram
from stt_service.engines.kyutai.row import FRAME, Traits
from stt_service.engines.kyutai.runner import Runner

FRAME_SECONDS = 0.08
CONFIG = StreamConfig(interim_results=True, word_offsets=True)


@dataclass(frozen=True)
class Measured:
    """One batch size; times in seconds."""

    batch_size: int
    step: float
    slowest: float
    """The slowest step of a hundred."""
    flush: float
    """From a flush to its end of turn, while all other rows go on in real time."""
    admission: float
    """Reset and prime of one row, in a step of all others."""
    memory: int | None
    """Most bytes of the GPU in use."""


def measure_model(
    shape: Shape, runtime: Runtime, batch_sizes: Sequence[int], *, steps: int, cuda_graphs: bool
) -> tuple[list[Measured], Roofline, Footprint]:
    """Measures one model; stops at the batch size that does not fit."""
    import torch

    codec, model = build_codec(shape, runtime.device), build_language_model(shape, runtime.device, runtime.dtype)
    trim(codec)
    footprint = measure(codec, make_generator(model))
    name = torch.cuda.get_device_name(runtime.device) if runtime.is_cuda else "CPU"
    roofline = Roofline(footprint.weights, footprint.per_slot, bandwidth_of(name))
    rows: list[Measured] = []
    for batch_size in batch_sizes:
        memory = runtime.memory()
        if memory is not None and footprint.slots(memory[0]) < batch_size:
            break
        try:
            with graphs(cuda_graphs):
                rows.append(_measure_batch(shape, runtime, (codec, model), footprint, batch_size, steps))
        except torch.OutOfMemoryError:
            break
        finally:
            for module in codec.modules():
                if hasattr(module, "_streaming_state"):
                    module._streaming_state = None  # noqa: SLF001 - the next batch size begins anew
            for module in model.modules():
                if hasattr(module, "_streaming_state"):
                    module._streaming_state = None  # noqa: SLF001
            gc.collect()
    return rows, roofline, footprint


def _measure_batch(
    shape: Shape, runtime: Runtime, models: tuple[Any, Any], footprint: Footprint, batch_size: int, steps: int
) -> Measured:
    import torch

    if runtime.is_cuda:
        torch.cuda.reset_peak_memory_stats(runtime.device)
    program, leases = _fill(shape, runtime, models, footprint, batch_size)
    times = [_step_all(program, leases) for _ in range(steps)]
    flush = statistics.median(_flush(program, leases) for _ in range(3))
    admission = statistics.median(_admit(program, leases) for _ in range(3))
    memory = torch.cuda.max_memory_allocated(runtime.device) if runtime.is_cuda else None
    return Measured(batch_size, statistics.median(times), float(np.quantile(times, 0.99)), flush, admission, memory)


def _fill(
    shape: Shape, runtime: Runtime, models: tuple[Any, Any], footprint: Footprint, batch_size: int
) -> tuple[ListeningProgram, list[Lease]]:
    """Returns a warm model in which every row has a stream that is past its first step."""
    codec, model = models
    runner = Runner(codec, make_generator(model), batch_size=batch_size, heads=shape.heads, device=runtime.device)
    runner.warm_up()
    traits = Traits(shape.delay, 0, shape.heads, lambda tokens: " word" * len(tokens))
    program = ListeningProgram(lambda: Loaded(runner, traits, footprint))
    program.load()
    leases = [Lease(row, row + 1) for row in range(batch_size)]
    for lease in leases:
        program.admit(lease, CONFIG)
    program.step()
    return program, leases


def profile(shape: Shape, runtime: Runtime, batch_size: int) -> str:
    """Returns a table of what ten steps of a full batch spend their time on."""
    import torch
    from torch.profiler import ProfilerActivity

    codec, model = build_codec(shape, runtime.device), build_language_model(shape, runtime.device, runtime.dtype)
    trim(codec)
    program, leases = _fill(shape, runtime, (codec, model), Footprint(0, 0), batch_size)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if runtime.is_cuda else [])]
    with torch.profiler.profile(activities=kinds) as profiler:
        for _ in range(10):
            _step_all(program, leases)
    order = "cuda_time_total" if runtime.is_cuda else "cpu_time_total"
    return str(profiler.key_averages().table(sort_by=order, row_limit=25))


def _step_all(program: ListeningProgram, leases: Sequence[Lease]) -> float:
    sound = np.random.default_rng(0).normal(0, 0.1, FRAME).astype(np.float32)
    for lease in leases:
        _row(program, lease).push(sound)
    begun = time.perf_counter()
    program.step()
    return time.perf_counter() - begun


def _flush(program: ListeningProgram, leases: Sequence[Lease]) -> float:
    """Flushes one row while the others get a frame every 80 ms."""
    _step_all(program, leases)
    sound = np.zeros(FRAME, np.float32)
    begun = time.perf_counter()
    _row(program, leases[0]).flush()
    fed = 0
    while True:
        # As many frames as have come in real time.
        while fed < (time.perf_counter() - begun) / FRAME_SECONDS:
            fed += 1
            for lease in leases[1:]:
                _row(program, lease).push(sound)
        for output in program.step():
            if any(isinstance(event, EndOfTurn) for event in output.events):
                return time.perf_counter() - begun


def _admit(program: ListeningProgram, leases: Sequence[Lease]) -> float:
    newcomer = leases[-1]
    program.drop(newcomer)
    program.admit(newcomer, CONFIG)
    return _step_all(program, leases[:-1]) if len(leases) > 1 else _timed(program)


def _timed(program: ListeningProgram) -> float:
    begun = time.perf_counter()
    program.step()
    return time.perf_counter() - begun


def _row(program: ListeningProgram, lease: Lease) -> Any:
    return program.row(lease)
