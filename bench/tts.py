"""Speed, latency, intelligibility and memory of the embedded text to speech: `python -m bench.tts`."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import statistics
import time
from typing import Any

import numpy as np
import psutil
import soxr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.wer import normalise, word_error_rate, word_errors
from mesh.weights import WeightStore
from stt_service.weights import WHISPER_TINY_EN
from tts_service.engine import Audio, UtteranceConfig
from tts_service.engines.hibari import HibariEngine

SENTENCES = (
    "The train to the airport leaves from platform two.",
    "She opened the window and let in the cold morning air.",
    "It costs $3.50 at 10:30 on May 3rd, 2024.",
    "Please remind me to call my mother on Sunday evening.",
    "The museum is closed on Mondays, but the garden is open.",
    "Water boils at 100 degrees when you are at sea level.",
    "My brother bought a small house near the river.",
    "Could you tell me how far it is to the next village?",
    "There were 25 people at the meeting, and 7 of them left early.",
    "A good night's sleep is the best medicine for a tired mind.",
    "The price went up by 20% in the last three years.",
    "Nobody knew why the old clock had stopped.",
    "Dr. Smith will see you at 4:15 in the afternoon.",
    "I think that we should wait until the rain is over.",
    "The children played football in the park after school.",
    "He wrote a long letter to his friend in Canada.",
    "Honey never spoils, because it holds almost no water.",
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "Turn left at the church and walk straight on for ten minutes.",
    "An octopus has three hearts and nine brains.",
    "You can pay with cash or by card, as you like.",
    "The moon is about 384,000 kilometers away from the earth.",
)
SHORT = "Sure, I can help you with that."


async def speak(engine: HibariEngine, text: str, config: UtteranceConfig) -> tuple[NDArray[np.float32], float, float]:
    """Returns the audio of `text`, the seconds to its first frame and those to its last."""
    session = await engine.open(config)
    parts, first = [], None
    began = time.perf_counter()
    try:
        await session.push(text)
        await session.finish()
        async for event in session.events():
            if isinstance(event, Audio):
                first = time.perf_counter() - began if first is None else first
                parts.append(event.samples)
    finally:
        await session.close()
    return np.concatenate(parts), first or 0.0, time.perf_counter() - began


def load_reader() -> Any:
    """Returns Whisper tiny.en, which reads the speech back."""
    from faster_whisper import WhisperModel

    folder = WeightStore().fetch_all(WHISPER_TINY_EN)[0].parent
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)


def read_back(reader: Any, samples: NDArray[np.float32], rate: int) -> str:
    """Returns what the reader hears in `samples`."""
    segments, _ = reader.transcribe(soxr.resample(samples, rate, 16_000), language="en", beam_size=5)
    return " ".join(segment.text.strip() for segment in segments)


async def measure(voices: list[str], verbose: bool) -> Table:
    """Returns the table of every voice."""
    process = psutil.Process()
    before = process.memory_info().rss
    engine = HibariEngine()
    began = time.perf_counter()
    await engine.start()
    loaded, memory = time.perf_counter() - began, process.memory_info().rss - before
    rate, reader = engine.capabilities.sample_rate, load_reader()
    table = Table(
        title=f"{engine.capabilities.model}: load {loaded:.2f} s, {memory / 2**20:.0f} MB; "
        f"{len(SENTENCES)} sentences, read back by Whisper tiny.en"
    )
    columns = ("voice", "times real time", "first audio p50", "first audio max", f"first audio of {SHORT!r}", "WER")
    for column in columns:
        table.add_column(column)
    for voice in voices or [voice.id for voice in engine.voices]:
        config = UtteranceConfig(voice_id=voice, seed=1)
        audio = busy = 0.0
        firsts, pairs = [], []
        for text in SENTENCES:
            samples, first, total = await speak(engine, text, config)
            audio, busy = audio + len(samples) / rate, busy + total
            firsts.append(first)
            pairs.append((text, await asyncio.to_thread(read_back, reader, samples, rate)))
            if verbose and word_errors(normalise(text), normalise(pairs[-1][1])):
                print(f"{voice}: {text!r} was heard as {pairs[-1][1]!r}")
        short = statistics.median([(await speak(engine, SHORT, config))[1] for _ in range(5)])
        milliseconds = (statistics.median(firsts), max(firsts), short)
        table.add_row(
            voice,
            f"{audio / busy:.0f}",
            *(f"{item * 1e3:.0f} ms" for item in milliseconds),
            f"{word_error_rate(pairs):.1%}",
        )
    await engine.close()
    return table


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("voices", nargs="*", help="voices to measure; all by default")
    parser.add_argument("--verbose", action="store_true", help="print each sentence that was not read back as written")
    arguments = parser.parse_args()
    Console(width=140).print(asyncio.run(measure(arguments.voices, arguments.verbose)))


if __name__ == "__main__":
    main()
