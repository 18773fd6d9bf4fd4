"""The whole mesh with the embedded engines: voice to voice, memory, start, and how well it hears and is heard.

    python -m bench.embedded [--questions N] [--cores N] [--skip-words]

Starts a mesh of its own, held to 2 cores, and speaks questions made with the text-to-speech engine's voices to it, with
preemptive answers on and off. A model store that is not filled yet is filled before anything is timed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.speech import QUESTIONS, Samples, say_all
from bench.talk import Record, talk
from bench.whole_mesh import Mesh, first_cores, running_mesh
from bench.words import hearing, speaking
from mesh.client.script import Spoken
from mesh.durations import to_seconds
from unmute.conversation.v1 import conversation_pb2 as pb

PER_CONVERSATION = 6
STAGES = (
    ("endpoint wait", "last sound to the decision that the turn has ended"),
    ("flush", "to the whole transcript"),
    ("language model", "to its first token"),
    ("text to speech", "to its first audio"),
    ("way and player", "to the first sound, silence before it and the player's reserve included"),
)


@dataclass
class Measured:
    """What one way to answer took, in seconds."""

    totals: list[float] = field(default_factory=list)
    stages: list[tuple[float, ...]] = field(default_factory=list)
    dropped: int = 0
    """Answers that were begun and thrown away."""
    split: int = 0
    """Questions that were answered before they were over."""


async def measure(address: str, speech: Sequence[Samples], *, preemptive: bool) -> Measured:
    """Asks every question, some in each conversation."""
    measured = Measured()

    def configure(config: pb.SessionConfig) -> None:
        config.turn_detection.preemptive_response = preemptive

    for start in range(0, len(speech), PER_CONVERSATION):
        asked = [Spoken(f"question {start + n}", item) for n, item in enumerate(speech[start:][:PER_CONVERSATION])]
        _note(await talk(address, asked, configure=configure), measured)
    return measured


def _note(record: Record, into: Measured) -> None:
    """Takes the times of every question that one answer followed."""
    sounds = record.sounds()
    created = record.of("response_created")
    # Every answer that is begun takes a number: those the client never saw were thrown away.
    last = max(_number(event.response_created.response.id) for _, event in created)
    into.dropped += last - len(created)
    done = {event.response_done.response.id: event.response_done.response for _, event in record.of("response_done")}
    ends = [*(first for first, _ in sounds[1:]), float("inf")]
    for (first, last_sound), end in zip(sounds, ends, strict=True):
        answers = [event for at, event in created if first < at < end]
        committed = [at for at, _ in record.of("input_audio_committed") if first < at < end]
        if len(answers) != 1 or len(committed) != 1:
            into.split += 1
            continue
        response = done[answers[0].response_created.response.id]
        items = [item.id for item in response.output]
        heard = record.first_sound(items[0]) if items else None
        if heard is None:
            continue
        timing = response.timing
        decided = to_seconds(timing.end_of_turn_delay)
        flushed = max(decided, committed[0] - last_sound)
        token = max(flushed, to_seconds(timing.first_token_delay))
        audio = max(token, to_seconds(timing.first_audio_delay))
        total = heard[0] - last_sound
        into.totals.append(total)
        into.stages.append((decided, flushed - decided, token - flushed, audio - token, total - audio))


def _number(response_id: str) -> int:
    return int(response_id.rpartition("_")[2])


def latency_table(results: dict[str, Measured], machine: str) -> Table:
    """Shows where the milliseconds go."""
    table = Table(title=f"Voice to voice, user's last sound to first reply sound\n{machine}")
    table.add_column("stage")
    for name in results:
        table.add_column(f"{name}\np50 / p90", justify="right")
    table.add_column("what")
    for index, (stage, meaning) in enumerate(STAGES):
        columns = [_spread([stages[index] for stages in measured.stages]) for measured in results.values()]
        table.add_row(stage, *columns, meaning)
    table.add_section()
    table.add_row("voice to voice", *(_spread(item.totals) for item in results.values()), "aims, p50: 1200, 900 ms")
    table.add_row("questions", *(str(len(item.totals)) for item in results.values()), "answered once, after their end")
    table.add_row("answered too early", *(str(item.split) for item in results.values()), "not counted above")
    table.add_row(
        "answers thrown away",
        *(f"{item.dropped / max(1, len(item.totals) + item.split):.2f} a turn" for item in results.values()),
        "begun on a likely end that was none",
    )
    return table


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "-"
    return f"{statistics.median(values) * 1e3:.0f} / {statistics.quantiles(values, n=10)[-1] * 1e3:.0f} ms"


def memory_table(mesh: Mesh, machine: str) -> Table:
    """Shows what every process holds, and what the start took."""
    table = Table("process", "RSS", "PSS", title=f"Memory after the conversations\n{machine}")
    footprints = mesh.footprints()
    for item in footprints:
        table.add_row(item.name, f"{item.rss / 2**20:.0f} MiB", f"{item.pss / 2**20:.0f} MiB")
    table.add_section()
    rss, pss = (sum(getattr(item, kind) for item in footprints) / 2**20 for kind in ("rss", "pss"))
    table.add_row("whole mesh (aim: below 2048)", f"{rss:.0f} MiB", f"{pss:.0f} MiB")
    table.add_row("unmute up to all SERVING (aim: below 20 s)", f"{mesh.seconds_to_serving:.1f} s", "")
    return table


async def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=len(QUESTIONS), help="questions to ask")
    parser.add_argument("--cores", type=int, default=2, help="cores that the mesh is held to")
    parser.add_argument("--skip-words", action="store_true", help="leave out the word error rates")
    given = parser.parse_args()
    console = Console(width=130)
    speech = await say_all(QUESTIONS[: given.questions], speeds=(1.0, 0.95, 1.08))
    on = first_cores(given.cores)
    async with running_mesh(on):
        """The first start fills the model store and the file cache."""
    async with running_mesh(on) as mesh:
        machine = describe(on)
        await measure(mesh.address("orchestrator"), speech[:1], preemptive=False)
        results = {
            "preemptive off": await measure(mesh.address("orchestrator"), speech, preemptive=False),
            "preemptive on": await measure(mesh.address("orchestrator"), speech, preemptive=True),
        }
        console.print(latency_table(results, machine))
        off, on_ = (statistics.median(item.totals) for item in results.values())
        saved = (off - on_) * 1e3
        console.print(f"Preemptive answers {'save' if saved > 0 else 'cost'} {abs(saved):.0f} ms a turn (medians).\n")
        console.print(memory_table(mesh, machine))
    if not given.skip_words:
        console.print(await hearing(machine))
        console.print(await speaking(machine))


if __name__ == "__main__":
    asyncio.run(main())
