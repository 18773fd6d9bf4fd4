"""Kyutai's text to speech: step time and first audio by batch size, through the engine's own runner and rows."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import kyutai as report_tools
from bench.kyutai_models import TTS, Roofline, Shape, bandwidth_of, build_codec, build_language_model, graphs
from mesh.batching import Lease
from mesh.kyutai import Footprint, Runtime
from tts_service.engine import Audio, Voice
from tts_service.engines.kyutai.loading import Conditions, Loaded, measure, traits_of
from tts_service.engines.kyutai.program import Admission, SpeakingProgram
from tts_service.engines.kyutai.row import FRAME_RATE
from tts_service.engines.kyutai.runner import Runner
from tts_service.engines.kyutai.script import ScriptReader
from tts_service.engines.kyutai.voices import KyutaiVoice, VoiceBook

EMBEDDING_FRAMES = 125
SENTENCE = "the quick brown fox jumps over the lazy dog and runs away into the dark forest behind the old house "
VOICE = KyutaiVoice(Voice("random", "Random", ("en",), "", ""), ("random",))
TEMPERATURE = 0.6


@dataclass(frozen=True)
class Measured:
    """One batch size; times in seconds."""

    batch_size: int
    step: float
    slowest: float
    """The slowest step of a hundred."""
    text_only: float
    """A step of the main transformer alone."""
    first_audio: float
    """From the admission of an utterance to its first frame, while all other rows speak."""
    memory: int | None
    """Most bytes of the GPU in use."""


def report(runtime: Runtime, options: argparse.Namespace) -> None:
    """Prints the tables."""
    tools = report_tools
    for shape in tools.chosen(TTS, options):
        for cuda_graphs in tools.graph_modes(runtime, options):
            sizes = options.sizes if cuda_graphs or not runtime.is_cuda else options.sizes[::3]
            rows, roofline, footprint = measure_model(
                shape, runtime, sizes, steps=options.steps, cuda_graphs=cuda_graphs
            )
            print(tools.title(shape, runtime, cuda_graphs))
            print(f"{footprint.weights / 1e6:.0f} MB of weights, {footprint.per_slot / 1e6:.1f} MB an utterance.\n")
            header = ("batch", "step ms", "p99 ms", "roofline ms", "x real time", "in real time", "text-only ms",
                      "first audio ms", "memory GB")  # fmt: skip
            tools.table(
                header,
                [
                    (
                        row.batch_size,
                        tools.ms(row.step),
                        tools.ms(row.slowest),
                        tools.ms(roofline.step(row.batch_size)),
                        f"{tools.FRAME_SECONDS / row.step:.1f}",
                        "yes" if row.slowest < tools.FRAME_SECONDS else "no",
                        tools.ms(row.text_only),
                        tools.ms(row.first_audio),
                        "" if row.memory is None else f"{row.memory / 1e9:.1f}",
                    )
                    for row in rows
                ],
            )


def measure_model(
    shape: Shape, runtime: Runtime, batch_sizes: Sequence[int], *, steps: int, cuda_graphs: bool
) -> tuple[list[Measured], Roofline, Footprint]:
    """Measures one model; stops at the batch size that does not fit."""
    import torch

    model = build(shape, runtime)
    conditions = Conditions(model, 2.0, EMBEDDING_FRAMES)
    channels = shape.kwargs["conditioners"]["speaker_wavs"]["tensor"]["dim"]
    embedding = torch.randn(1, channels, EMBEDDING_FRAMES)
    voice = conditions.make(VOICE, [embedding])
    footprint = measure(model, voice, TEMPERATURE)
    name = torch.cuda.get_device_name(runtime.device) if runtime.is_cuda else "CPU"
    roofline = Roofline(footprint.weights, footprint.per_slot, bandwidth_of(name))
    rows: list[Measured] = []
    for batch_size in batch_sizes:
        memory = runtime.memory()
        if memory is not None and footprint.slots(memory[0]) < batch_size:
            break
        try:
            with graphs(cuda_graphs):
                rows.append(_measure_batch(model, voice, runtime, footprint, conditions, batch_size, steps))
        except torch.OutOfMemoryError:
            break
        finally:
            gc.collect()
    return rows, roofline, footprint


def build(shape: Shape, runtime: Runtime) -> Any:
    """Returns moshi's `TTSModel` with random weights; its words have two tokens each."""
    from moshi.models.tts import StateMachine, TokenIds, TTSModel

    language_model = build_language_model(shape, runtime.device, runtime.dtype)
    codec = build_codec(shape, runtime.device)
    codec.set_num_codebooks(shape.made)
    codec.encoder_transformer = None
    machine = StateMachine(TokenIds(language_model.text_card + 1), second_stream_ahead=2, max_padding=8)
    return TTSModel(
        lm=language_model,
        mimi=codec,
        tokenizer=_Tokenizer(),
        voice_suffix="",
        voice_repo="",
        machine=machine,
        delay_steps=int(shape.delay * FRAME_RATE),
        n_q=shape.made,
    )


class _Tokenizer:
    def encode(self, word: str) -> list[int]:
        return [10 + len(word), 30 + len(word)]


def _measure_batch(
    model: Any, voice: Any, runtime: Runtime, footprint: Footprint, conditions: Conditions, batch_size: int, steps: int
) -> Measured:
    import torch

    if runtime.is_cuda:
        torch.cuda.reset_peak_memory_stats(runtime.device)
    runner = Runner(model, voice, batch_size=batch_size, temperature=TEMPERATURE)
    try:
        runner.warm_up()
        loaded = Loaded(runner, traits_of(model), footprint, [VOICE], VoiceBook("", "", ()), conditions)
        program = SpeakingProgram(lambda: loaded)
        program.load()
        leases = [Lease(row, row + 1) for row in range(batch_size)]
        for lease in leases:
            _speak(program, lease, voice)
        text_only = [_step(program, leases) for _ in range(model.delay_steps)]
        # The frames that follow have no sound yet.
        for _ in range(max(model.lm.delays)):
            _step(program, leases)
        times = [_step(program, leases) for _ in range(steps)]
        first_audio = statistics.median(_first_audio(program, leases, voice) for _ in range(5))
        memory = torch.cuda.max_memory_allocated(runtime.device) if runtime.is_cuda else None
    finally:
        runner.close()
    return Measured(
        batch_size,
        statistics.median(times),
        float(np.quantile(times, 0.99)),
        statistics.median(text_only),
        first_audio,
        memory,
    )


def _speak(program: SpeakingProgram, lease: Lease, voice: Any) -> None:
    program.admit(lease, Admission(voice, 1, lease.generation))
    _write(program, lease)


def _write(program: SpeakingProgram, lease: Lease) -> None:
    row = program.row(lease)
    if row is not None:
        row.add(ScriptReader().push(SENTENCE))


def _step(program: SpeakingProgram, leases: Sequence[Lease]) -> float:
    """Times a step in which every row has text and room."""
    for lease in leases:
        row = program.row(lease)
        if row is not None:
            row.taken(row.waiting)
            if not row.runnable:
                _write(program, lease)
    begun = time.perf_counter()
    program.step()
    return time.perf_counter() - begun


def _first_audio(program: SpeakingProgram, leases: Sequence[Lease], voice: Any) -> float:
    newcomer = leases[-1]
    program.drop(newcomer)
    begun = time.perf_counter()
    _speak(program, newcomer, voice)
    while True:
        for lease in leases:
            row = program.row(lease)
            if row is not None and not row.runnable:
                row.taken(row.waiting)
                _write(program, lease)
        for output in program.step():
            if output.lease == newcomer and any(isinstance(event, Audio) for event in output.events):
                return time.perf_counter() - begun
