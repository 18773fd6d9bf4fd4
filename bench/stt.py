"""Speech to text: word error rate, how often interim text comes, what a flush takes, what it costs. Prints a table.

    python -m bench.stt [--speech FOLDER] [--paced N] [--model PATH]

Made speech is always there (hibari; flite and espeak-ng where they are installed). FOLDER adds real recordings: each
audio file with its text in a .txt file of the same name.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.wer import word_error_rate
from mesh.audio import read_audio_file
from stt_service.engine import EndOfTurn, Engine, Event, Final, Interim, SpeechStarted, SpeechStopped, StreamConfig
from stt_service.engines import create_engine
from stt_service.settings import SttSettings

SENTENCES = (
    "What is the capital of France?",
    "Could you tell me a short story about a cat?",
    "The train to London leaves at half past nine in the morning.",
    "I would like to book a table for four people tonight.",
    "How many planets are there in the solar system?",
    "Please remind me to call my sister on Friday.",
    "The weather has been cold and windy since yesterday.",
    "Why is the sky blue during the day and red in the evening?",
    "She bought twelve eggs, some butter and a loaf of bread.",
    "Can you explain how a battery works in simple words?",
    "My favourite season is autumn because of the colours.",
    "Turn off the lights in the kitchen and lock the front door.",
    "The meeting was moved from Tuesday to Thursday afternoon.",
    "Yes, that sounds good to me.",
    "Who wrote the play about the prince of Denmark?",
    "We walked along the river until it started to rain.",
    "Is there a pharmacy near the station?",
    "The museum opens at ten and closes at six.",
    "He has been learning to play the guitar for two years.",
    "Thank you very much for your help today.",
)
CHUNK = 1280
FLUSH_AFTER = 0.2
RATE = 16000


@dataclass
class Measured:
    """What a set of recordings gave."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0
    flushes: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)


def make_speech(folder: Path) -> dict[str, list[tuple[str, NDArray[np.float32]]]]:
    """Returns (text, audio) of every sentence by each synthesiser that is there."""
    from hibari import Hibari

    made: dict[str, list[tuple[str, NDArray[np.float32]]]] = {}
    voice = Hibari()
    for name in ("hibari", "flite", "espeak-ng"):
        if name != "hibari" and not shutil.which(name):
            continue
        for index, text in enumerate(SENTENCES):
            path = folder / f"{name}-{index}.wav"
            if name == "hibari":
                voice.save(text, str(path), seed=index)
            else:
                flags = ["-voice", "slt", "-t", text, "-o"] if name == "flite" else ["-w"]
                rest = [] if name == "flite" else [text]
                subprocess.run([name, *flags, str(path), *rest], check=True)
            made.setdefault(name, []).append((text, read_audio_file(path, RATE)))
    return made


def read_speech(folder: Path) -> list[tuple[str, NDArray[np.float32]]]:
    """Returns (text, audio) of the recordings in `folder`."""
    audio = (path for path in sorted(folder.iterdir()) if path.suffix in (".wav", ".flac", ".ogg"))
    return [
        (path.with_suffix(".txt").read_text(), read_audio_file(path, RATE))
        for path in audio
        if path.with_suffix(".txt").exists()
    ]


async def transcribe(engine: Engine, text: str, samples: NDArray[np.float32], into: Measured, *, paced: bool) -> None:
    """Transcribes one recording, at real pace or as fast as it goes."""
    config = StreamConfig(interim_results=paced, word_offsets=True, turn_predictions=paced)
    session = await engine.open(config)
    heard: list[str] = []
    began = time.perf_counter()
    stamped: list[tuple[float, Event]] = []

    async def listen() -> None:
        async for event in session.events():
            stamped.append((time.perf_counter() - began, event))
            if isinstance(event, Final):
                heard.append(event.text)

    cpu = time.process_time()
    task = asyncio.create_task(listen())
    # The recording's own silence at the end would hide the flush: it ends where speech does.
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    speech = samples[: loud[-1] + 1] if len(loud) else samples
    padded = np.concatenate([speech, np.zeros(round(FLUSH_AFTER * RATE), np.float32)])
    for start in range(0, len(padded), CHUNK):
        if paced:
            await asyncio.sleep(began + (start + CHUNK) / RATE - time.perf_counter())
        await session.push(padded[start : start + CHUNK])
    flushed = time.perf_counter() - began
    await session.flush()
    await session.finish()
    await task
    await session.close()
    into.cpu += time.process_time() - cpu
    into.seconds += len(padded) / RATE
    into.pairs.append((text, " ".join(heard)))
    if paced:
        _note_times(stamped, flushed, into)


def _note_times(stamped: list[tuple[float, Event]], flushed: float, into: Measured) -> None:
    """Notes the flush, and the time between interim texts while speech goes on."""
    into.flushes.append(next(at for at, event in stamped if isinstance(event, EndOfTurn)) - flushed)
    last: float | None = None
    first = True
    for at, event in stamped:
        if isinstance(event, SpeechStarted):
            last = event.at
        elif isinstance(event, SpeechStopped):
            last = None
        elif isinstance(event, Interim) and last is not None:
            (into.firsts if first else into.gaps).append(at - last)
            first, last = False, at


async def measure(settings: SttSettings, folder: Path | None, paced: int) -> Table:
    """Returns the table."""
    engine = create_engine(settings)
    await engine.start()
    table = Table(title=f"Speech to text: {engine.capabilities.model}, {settings.threads} threads")
    for name in ("speech", "clips", "WER", "first interim", "interim gap p50/max", "flush p50/max", "CPU s/s"):
        table.add_column(name, justify="left" if name == "speech" else "right")
    with tempfile.TemporaryDirectory() as temporary:
        sets = make_speech(Path(temporary))
    if folder is not None:
        sets["real"] = read_speech(folder)
    for name, clips in sets.items():
        whole, live = Measured(), Measured()
        for text, samples in clips:
            await transcribe(engine, text, samples, whole, paced=False)
        for text, samples in clips[:paced]:
            await transcribe(engine, text, samples, live, paced=True)
        table.add_row(
            name, str(len(clips)), f"{word_error_rate(whole.pairs):.1%}", _middle(live.firsts), _spread(live.gaps),
            _spread(live.flushes), f"{live.cpu / live.seconds:.2f}" if live.seconds else "-",
        )  # fmt: skip
    await engine.close()
    return table


def _middle(values: list[float]) -> str:
    return f"{statistics.median(values) * 1e3:.0f} ms" if values else "-"


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values) * 1e3:.0f}/{max(values) * 1e3:.0f} ms" if values else "-"


def main() -> None:
    """Parses the flags and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, help="folder of recordings, each with a .txt file beside it")
    parser.add_argument("--paced", type=int, default=8, help="clips of each set that are played at real pace")
    parser.add_argument("--model", default="", help="model to measure")
    parser.add_argument("--threads", type=int, default=2, help="decodes at once")
    given = parser.parse_args()
    settings = SttSettings(model=given.model, threads=given.threads)
    Console(width=140).print(asyncio.run(measure(settings, given.speech, given.paced)))


if __name__ == "__main__":
    main()
