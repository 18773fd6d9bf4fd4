"""Word error rates of the embedded engines: what is heard of real and made speech, and what is heard of their own."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from bench import stt, tts
from bench.wer import normalise, word_error_rate
from mesh.audio import read_audio_file
from mesh.errors import MeshError
from mesh.weights import Weight, WeightStore
from stt_service.engines import create_engine
from stt_service.settings import SttSettings
from tts_service.engine import UtteranceConfig
from tts_service.engines.hibari import HibariEngine


def _recording(file: str, size: int, sha256: str) -> Weight:
    return Weight(
        name=f"recordings/{file}",
        source=f"pypi:moonshine-voice==0.1.5#moonshine_voice/assets/{file}",
        size=size,
        sha256=sha256,
        licence="MIT",
        origin="recordings that come with Moonshine Voice",
        optional=True,
        download_size=19897307,
    )


BECKETT = _recording("beckett.wav", 318978, "e5a26b3d29e5b0bc8dbd72c11d16a3808a4ec0ac45b21f12a27d2a2fe5c5ae61")
TWO_CITIES = _recording("two_cities.wav", 4260326, "f3348494d77cb74a02862f5e685ed09faf3e75832c5cc5c80703282c2cd8b52e")
TEXTS = {
    BECKETT: "Ever tried? Ever failed? No matter. Try again. Fail again. Fail better.",
    TWO_CITIES: "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
    "foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the "
    "season of Darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had "
    "nothing before us, we were all going direct to Heaven, we were all going direct the other way - in short, the "
    "period was so far like the present period, that some of its noisiest authorities insisted on its being received, "
    "for good or for evil, in the superlative degree of comparison only.",
}


def real_speech() -> list[tuple[str, NDArray[np.float32]]]:
    """Returns (text, audio) of the recordings; none if they cannot be had."""
    store = WeightStore()
    try:
        paths = store.fetch_all(TEXTS)
    except MeshError as error:
        print(f"real speech is left out: {error.message}")
        return []
    finally:
        store.close()
    return [(text, read_audio_file(path, stt.RATE)) for text, path in zip(TEXTS.values(), paths, strict=True)]


async def hearing(machine: str) -> Table:
    """Word error rate of speech to text."""
    engine = create_engine(SttSettings())
    await engine.start()
    table = Table(title=f"Speech to text: {engine.capabilities.model}\n{machine}")
    for name in ("speech", "recordings", "words", "WER"):
        table.add_column(name, justify="left" if name == "speech" else "right")
    with tempfile.TemporaryDirectory() as folder:
        sets = {f"made by {name}": clips for name, clips in stt.make_speech(Path(folder)).items()}
    if real := await asyncio.to_thread(real_speech):
        sets["real: a read book, and a play"] = real
    for name, clips in sets.items():
        measured = stt.Measured()
        for text, samples in clips:
            await stt.transcribe(engine, text, samples, measured, paced=False)
        words = sum(len(normalise(text)) for text, _ in measured.pairs)
        table.add_row(name, str(len(clips)), str(words), f"{word_error_rate(measured.pairs):.1%}")
    await engine.close()
    return table


async def speaking(machine: str) -> Table:
    """Word error rate of text to speech, read back by the speech-to-text model."""
    engine = HibariEngine()
    await engine.start()
    rate, reader = engine.capabilities.sample_rate, tts.load_reader()
    table = Table(title=f"Text to speech: {engine.capabilities.model}, read back by whisper-tiny.en\n{machine}")
    for name in ("voice", "sentences", "words", "WER"):
        table.add_column(name, justify="left" if name == "voice" else "right")
    for voice in engine.voices:
        config = UtteranceConfig(voice_id=voice.id, seed=1)
        pairs = []
        for text in tts.SENTENCES:
            samples, _, _ = await tts.speak(engine, text, config)
            pairs.append((text, await asyncio.to_thread(tts.read_back, reader, samples, rate)))
        words = sum(len(normalise(text)) for text, _ in pairs)
        table.add_row(voice.id, str(len(pairs)), str(words), f"{word_error_rate(pairs):.1%}")
    await engine.close()
    return table
