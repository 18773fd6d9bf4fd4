"""Speech made for benchmarks, cached; and noises that are none."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.tts import speak
from loadtest.speech import RATE, audible_span
from mesh.audio import read_audio_file, write_wav
from tts_service.engine import UtteranceConfig
from tts_service.engines.hibari import HibariEngine

Samples = NDArray[np.float32]

QUESTIONS = (
    "How do bees make honey?",
    "What is the capital of France?",
    "Can you tell me why the sky is blue during the day?",
    "How many planets are there in the solar system, and which one is the largest?",
    "What should I cook for dinner tonight?",
    "Why do cats purr?",
    "I have a job interview tomorrow morning. Do you have any advice for me?",
    "Who wrote Romeo and Juliet?",
    "What's the difference between a crocodile and an alligator?",
    "Could you recommend a good book for a long train ride?",
    "How does a rainbow form?",
    "My plants keep dying. What am I doing wrong?",
    "What is the tallest mountain in the world?",
    "How long does it take to boil an egg?",
    "Where do penguins live?",
    "I can't sleep at night. What would you suggest?",
    "What do you think about long walks in the rain?",
    "Why is the ocean salty?",
    "Can you explain how a bicycle stays upright?",
    "What is a good present for a ten year old girl?",
    "How far away is the moon?",
    "When was the telephone invented, and by whom?",
    "Is it true that goldfish have a short memory?",
    "How can I learn to play the guitar quickly?",
)


def cache() -> Path:
    """Returns the folder that made speech is kept in from one benchmark to the next."""
    folder = Path(tempfile.gettempdir()) / "unmute-bench-speech"
    folder.mkdir(exist_ok=True)
    return folder


async def say_all(texts: tuple[str, ...], *, speeds: tuple[float, ...] = (1.0,)) -> list[Samples]:
    """Returns each text spoken, mono at `RATE`, without silence around it; voices and speeds take turns."""
    engine = HibariEngine()
    voices = [voice.id for voice in engine.voices]
    paths: list[Path] = []
    started = False
    try:
        for index, text in enumerate(texts):
            voice, speed = voices[index % len(voices)], speeds[index % len(speeds)]
            name = hashlib.sha256(f"{engine.capabilities.model}|{voice}|{speed}|{text}".encode()).hexdigest()[:24]
            path = cache() / f"{name}.wav"
            paths.append(path)
            if path.exists():
                continue
            if not started:
                await engine.start()
                started = True
            config = UtteranceConfig(voice_id=voice, speaking_rate=speed, seed=index)
            samples, _, _ = await speak(engine, text, config)
            first, last = audible_span(samples)
            write_wav(path, samples[first:last], engine.capabilities.sample_rate)
    finally:
        if started:
            await engine.close()
    return [read_audio_file(path, RATE) for path in paths]


# ---------------------------------------------------------------- noises


def cough(seed: int) -> Samples:
    """A cough: two bursts of breath, coloured like a throat, falling off."""
    random = np.random.default_rng(seed)
    bursts = [_burst(random, 0.16, 350, 2500, 0.025), np.zeros(RATE // 12), _burst(random, 0.22, 300, 1800, 0.05)]
    return _at(0.35, np.concatenate(bursts))


def noise_burst(seed: int) -> Samples:
    """Half a second of white noise, such as a tap that runs."""
    random = np.random.default_rng(seed)
    return _at(0.25, random.normal(0, 1, RATE // 2) * np.hanning(RATE // 2) ** 0.25)


def door_knock(seed: int) -> Samples:
    """Three knocks on wood: short, low, ringing for a moment."""
    random = np.random.default_rng(seed)
    knocks = []
    for _ in range(3):
        time = np.arange(round(0.12 * RATE)) / RATE
        tones = [np.sin(2 * np.pi * f * time) * np.exp(-time * d) for f, d in ((110, 30), (230, 45), (410, 70))]
        ring = np.sum(tones, axis=0)
        click = random.normal(0, 1, len(time)) * np.exp(-time * 250)
        knocks += [ring + 0.6 * click, np.zeros(round(random.uniform(0.1, 0.16) * RATE))]
    return _at(0.6, np.concatenate(knocks))


def keyboard(seed: int) -> Samples:
    """A second and a half of typing: a click down and a softer one up for each key."""
    random = np.random.default_rng(seed)
    out = np.zeros(round(1.5 * RATE))
    at = 0.0
    while (at := at + random.uniform(0.09, 0.22)) < 1.35:
        for delay, loudness in ((0.0, 1.0), (random.uniform(0.05, 0.08), 0.4)):
            start = round((at + delay) * RATE)
            key = _burst(random, 0.02, 1500, 7000, 0.004) * loudness
            out[start : start + len(key)] += key[: len(out) - start]
    return _at(0.2, out)


NOISES = {"cough": cough, "noise burst": noise_burst, "door knock": door_knock, "keyboard": keyboard}


def _burst(random: np.random.Generator, seconds: float, low: float, high: float, decay: float) -> NDArray[np.float64]:
    """Noise between two frequencies that rises at once and falls off with a time constant."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(random.normal(0, 1, count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    shape = 1 / (1 + (low / np.maximum(frequencies, 1)) ** 4) / (1 + (frequencies / high) ** 4)
    out: NDArray[np.float64] = np.fft.irfft(spectrum * shape, count) * np.exp(-np.arange(count) / RATE / decay)
    out /= np.max(np.abs(out))
    return out


def _at(peak: float, samples: NDArray[np.float64]) -> Samples:
    """Returns the sound with its greatest amplitude at `peak`."""
    out: Samples = (samples / np.max(np.abs(samples)) * peak).astype(np.float32)
    return out
