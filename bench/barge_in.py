"""Being interrupted with the real embedded engines, measured where the user hears it: at the client's playout.

    python -m bench.barge_in [--trials N] [--cores N]

Starts a mesh of its own. In each trial the assistant explains at length; 3.4 s after its first sound the user says
something over it, or something makes a noise. Delays count from the first sound of that, not from when it was noticed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.speech import NOISES, QUESTIONS, Samples, say_all
from bench.talk import Record, talk
from bench.tts import load_reader, read_back
from bench.wer import normalise, word_errors
from bench.whole_mesh import first_cores, running_mesh
from loadtest.speech import audible_span
from mesh.client.script import Spoken, Typed, Utterance
from unmute.conversation.v1 import conversation_pb2 as pb

BARGE_INS = (
    "Wait, how much water was that?",
    "Stop. I would like to hear about the weather.",
    "Hold on a second, please.",
    "Can you tell me about cakes instead?",
    "No, that is not what I asked.",
    "Excuse me, how long does that take?",
    "Let's talk about something else.",
    "Please be quiet for a moment.",
    "I have a question about the oven.",
    "What time is it now?",
)
BACKCHANNELS = {"uh-huh": "Uh-huh.", "yeah": "Yeah.", "okay": "Okay.", "right": "Right."}
QUESTION = Typed("Describe step by step, in great detail, how to bake bread.")
BARGE_IN_SECONDS = 3.4
"""After the assistant's first sound: the voice detector counts from 3 s on."""
WATCH_SECONDS = 2.5
"""What has not stopped the assistant by then does not."""


@dataclass(frozen=True)
class Outcome:
    """What one sound over the assistant's speech did."""

    silenced: float | None
    """Seconds from its first sound until the player fell silent."""
    stopped: bool
    """The answer was cut off."""
    printed: str = ""
    """The transcript of the answer."""
    played: Samples | None = None
    """What was played of it."""
    ended: bool = False
    """The answer was over before the sound was: it shows nothing."""


def talkative(config: pb.SessionConfig) -> None:
    """Makes answers long enough to be interrupted."""
    config.instructions.text = "You are a patient cook who explains everything in many sentences."
    config.max_output_tokens = 250


async def interrupt(address: str, name: str, samples: Samples, *, until_cut: bool) -> Outcome:
    """Makes one sound over an answer; `until_cut`: it is over once the answer was cut off and printed."""

    def over(record: Record) -> bool:
        sounds = record.sounds()
        printed = any(line.speaker == "assistant" for _, line in record.lines)
        return bool(sounds) and ((until_cut and printed) or record.now > sounds[0][1] + WATCH_SECONDS)

    said: list[Utterance] = [QUESTION, Spoken(name, samples)]
    record = await talk(address, said, stop_when=over, configure=talkative, barge_in=BARGE_IN_SECONDS)
    first, _ = record.sounds()[0]
    held = [at for kind in ("output_audio_paused", "interrupted") for at, _ in record.of(kind, after=first)]
    lines = [line.text for _, line in record.lines if line.speaker == "assistant"]
    stopped = bool(record.of("interrupted", after=first))
    return Outcome(
        silenced=min(held) - first if held else None,
        stopped=stopped,
        printed=lines[0] if lines else "",
        played=record.player.recording(),
        ended=not stopped and any(at < record.now for at, _ in record.of("response_done")),
    )


def compare(reader: Any, rate: int, outcome: Outcome) -> tuple[int, int]:
    """Returns by how many words the printed transcript is longer than what was played, and how many words differ."""
    if outcome.played is None:
        return 0, 0
    # The reader takes a word that breaks off for noise unless silence follows.
    played = np.concatenate([outcome.played, np.zeros(rate // 2, np.float32)])
    printed, heard = normalise(outcome.printed), normalise(read_back(reader, played, rate))
    return len(printed) - len(heard), word_errors(printed, heard)


async def spoken(address: str, trials: int, table: Table) -> None:
    """Real interruptions."""
    speech = await say_all((BARGE_INS * trials)[:trials])
    reader = await asyncio.to_thread(load_reader)
    outcomes = [await interrupt(address, "barge-in", samples, until_cut=True) for samples in speech]
    delays = [outcome.silenced for outcome in outcomes if outcome.silenced is not None]
    table.add_row("spoken barge-in: stops the answer", _of(outcomes, lambda outcome: outcome.stopped), "aim: all")
    if delays:
        text = f"{statistics.median(delays) * 1e3:.0f} ms, at most {max(delays) * 1e3:.0f} ms"
        table.add_row("  first sound to silence, median", text, "aim: below 300 ms")
    differences = [compare(reader, 24_000, outcome) for outcome in outcomes if outcome.stopped]
    exact = sum(longer == 0 and errors == 0 for longer, errors in differences)
    close = sum(abs(longer) <= 1 and errors <= 2 for longer, errors in differences)
    table.add_row(
        "  transcript ends at the word that was played",
        f"{close} of {len(differences)}",
        f"within one word of what a reader hears of it; {exact} alike in every word",
    )


async def ignored(address: str, name: str, sounds: list[Samples], table: Table) -> None:
    """Sounds that must not stop the assistant."""
    outcomes = [await interrupt(address, name, samples, until_cut=False) for samples in sounds]
    counted = [outcome for outcome in outcomes if not outcome.ended]
    held = sum(outcome.silenced is not None and not outcome.stopped for outcome in counted)
    note = f"aim: 0; held for a moment: {held}" if held else "aim: 0"
    table.add_row(f"{name}: stops the answer", _of(counted, lambda outcome: outcome.stopped), note)


async def silence(address: str, trials: int, table: Table) -> None:
    """Silence after an answer."""
    [question] = await say_all(QUESTIONS[:1])
    waits: list[float] = []
    for _ in range(trials):
        record = await talk(
            address,
            [Spoken("question", question)],
            stop_when=lambda record: bool(_after_silence(record)) and record.player.sounding,
            configure=_brief,
            settle=20.0,
        )
        spoken_at = _after_silence(record)
        done = record.of("response_done")
        if spoken_at and done:
            waits.append(spoken_at[0] - done[0][0])
    text = f"{len(waits)} of {trials}, after {statistics.median(waits):.1f} s" if waits else f"0 of {trials}"
    table.add_row("silence is filled", text, "aim: all, after 7 s and the time of an answer")


def _brief(config: pb.SessionConfig) -> None:
    config.max_output_tokens = 24


def _after_silence(record: Record) -> list[float]:
    """Times of the audio that came after a silence was noticed."""
    noticed = record.of("idle_timeout_triggered")
    return [at for at, _ in record.of("output_audio_delta", after=noticed[0][0])] if noticed else []


def _of(outcomes: list[Outcome], which: Callable[[Outcome], bool]) -> str:
    return f"{sum(which(outcome) for outcome in outcomes)} of {len(outcomes)}"


def loudness(samples: Samples) -> str:
    """Returns the level of a sound's audible part, for the notes."""
    first, last = audible_span(samples)
    level = np.sqrt(np.mean(samples[first:last] ** 2)) if last > first else 0.0
    return f"{20 * np.log10(max(level, 1e-6)):.0f} dB"


async def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10, help="of each kind of sound")
    parser.add_argument("--cores", type=int, default=2, help="cores that the mesh is held to")
    given = parser.parse_args()
    on = first_cores(given.cores)
    table = Table("what", "result", "note")
    async with running_mesh(on) as mesh:
        address = mesh.address("orchestrator")
        table.title = f"Being interrupted: embedded engines\n{describe(on)}"
        await spoken(address, given.trials, table)
        for name, text in BACKCHANNELS.items():
            # Every voice, and each at another speed when its turn comes again.
            sounds = await say_all((text,) * given.trials, speeds=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.1, 0.9, 0.9))
            await ignored(address, name, sounds, table)
        for name, make in NOISES.items():
            sounds = [make(seed) for seed in range(given.trials)]
            await ignored(address, f"{name}, {loudness(sounds[0])}", sounds, table)
        await silence(address, min(3, given.trials), table)
    Console(width=130).print(table)


if __name__ == "__main__":
    asyncio.run(main())
