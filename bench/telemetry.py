"""What metrics and traces cost the orchestrator and speech to text: for each audio message, and for each turn.

    python -m bench.telemetry [--rounds N]

The core's own steps of a spoken turn are recorded once; then the observer sees them again and again. The shares of the
core itself, which runs either way, are shown beside it. Traces go to a collector that is not there, so that the export,
which has a thread of its own, takes nothing; what is measured is what the conversation waits for.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.zero import ZeroStt
from mesh.metrics import Metrics
from mesh.otlp import OtlpTracer
from mesh.telemetry import Telemetry
from mesh.tracing import NO_TRACER, Tracer
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.observer import Observer
from orchestrator.turns import actions, events
from orchestrator.turns.actions import Action
from orchestrator.turns.events import Event
from orchestrator.turns.reducer import reduce
from orchestrator.turns.settings import Config
from orchestrator.turns.state import State
from stt_service.measures import Measures
from stt_service.metrics import SttMetrics

FRAME = 0.08
SPEECH_FRAMES, ANSWER_WORDS = 25, 12
Step = tuple[Event, State, State, tuple[Action, ...], float]


class Script:
    """Feeds the core what a client and three services would."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self.state = State()
        self.now = 0.0
        self.steps: list[Step] = []
        self.ids: dict[type[Action], str] = {}

    def feed(self, event: Event) -> None:
        """One step of the core, and its timers that are due before the next."""
        before = self.state
        self.state, todo = reduce(before, event, self.now)
        self.steps.append((event, before, self.state, todo, self.now))
        for action in todo:
            match action:
                case actions.StartAnswer():
                    self.ids[actions.StartAnswer] = action.answer_id
                case actions.OpenSpeech():
                    self.ids[actions.OpenSpeech] = action.speech_id
                case actions.FlushStt():
                    self.ids[actions.FlushStt] = str(action.flush_id)

    def wait(self, seconds: float) -> None:
        """Lets time pass, with what the core's timers do in it."""
        until = self.now + seconds
        while due := [(at, timer) for timer, at in self.state.timers.items() if at <= until]:
            self.now, timer = min(due)
            self.feed(events.TimerFired(timer))
        self.now = until


def audio_steps(script: Script, frames: int) -> Iterator[None]:
    """Audio comes, frame by frame."""
    for _ in range(frames):
        script.wait(FRAME)
        script.feed(events.AudioReceived(script.state.audio_position + FRAME))
        yield


def record() -> list[Step]:
    """Returns the steps of one turn that is spoken, answered and played."""
    script = Script()
    script.feed(events.SessionStarted(Config()))
    for _ in audio_steps(script, 20):
        pass
    script.steps.clear()
    start = script.state.audio_position
    script.feed(events.SpeechStarted(start))
    for number, _ in enumerate(audio_steps(script, SPEECH_FRAMES)):
        if number % 5 == 4:
            at = script.state.audio_position
            script.feed(events.WordHeard("s1", " word", at - FRAME, at))
            script.feed(events.PausePredicted(at, 0.1))
    end = script.state.audio_position
    script.feed(events.SpeechStopped(end))
    for _ in audio_steps(script, 3):
        script.feed(events.PausePredicted(script.state.audio_position, 0.99))
    script.feed(events.FlushDone(int(script.ids[actions.FlushStt])))
    answer, speech = script.ids[actions.StartAnswer], script.ids[actions.OpenSpeech]
    for number in range(ANSWER_WORDS):
        script.feed(events.AnswerText(answer, "word "))
        script.feed(events.WordSpoken(speech, " word", number * 0.3, number * 0.3 + 0.3))
        for piece in range(4):
            script.feed(events.AudioMade(speech, number * 0.3 + (piece + 1) * 0.075))
    script.feed(events.AnswerFinished(answer))
    script.feed(events.SpeechFinished(speech))
    for _ in audio_steps(script, round(ANSWER_WORDS * 0.3 / FRAME) + 10):
        pass
    assert script.state.response is None, "the turn has not ended"  # noqa: S101 - a check of the script
    return script.steps


def seconds(work: Callable[[], None], rounds: int) -> float:
    """Returns the median time of a call, in seconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def measure(rounds: int, tracer: Tracer) -> dict[str, float]:
    """Returns what each piece of work costs, in seconds."""
    steps = record()
    audio = [step for step in steps if isinstance(step[0], events.AudioReceived) and not step[3]]

    def core(some: list[Step]) -> None:
        for event, before, _, _, now in some:
            reduce(before, event, now)

    def observer(with_tracer: Tracer) -> Observer:
        made = Observer(OrchestratorMetrics(Metrics(), limit=1, active=lambda: 0), with_tracer)
        made.begin("sess_bench", lambda _: None)
        return made

    def see(made: Observer, some: list[Step]) -> None:
        for step in some:
            made.saw(*step)

    telemetry = Telemetry()
    stt = Measures(SttMetrics(telemetry.metrics.registry, ZeroStt(), lambda: 0.0), NO_TRACER)

    def hear() -> None:
        for _ in range(100):
            stt.audio(FRAME)

    quiet, traced = observer(NO_TRACER), observer(tracer)
    return {
        "messages": float(len(audio)),
        "steps": float(len(steps)),
        "core, audio": seconds(lambda: core(audio), rounds) / len(audio),
        "metrics, audio": seconds(lambda: see(quiet, audio), rounds) / len(audio),
        "traces, audio": seconds(lambda: see(traced, audio), rounds) / len(audio),
        "stt, audio": seconds(hear, rounds) / 100,
        "core, turn": seconds(lambda: core(steps), rounds),
        "metrics, turn": seconds(lambda: see(quiet, steps), rounds),
        "traces, turn": seconds(lambda: see(traced, steps), rounds),
    }


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What metrics and traces cost.")
    parser.add_argument("--rounds", type=int, default=2000, help="How often each thing is done.")
    rounds = parser.parse_args().rounds
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    tracer = OtlpTracer("bench", "http://127.0.0.1:1")
    found = asyncio.run(measure(rounds, tracer))
    table = Table(title=f"What metrics and traces cost\n{describe()}")
    for heading in ("work", "core itself", "metrics", "metrics and traces"):
        table.add_column(heading, justify="left" if heading == "work" else "right")
    for work, title in (
        ("audio", "orchestrator, an audio message"),
        ("turn", f"orchestrator, a turn of {found['steps']:.0f} steps"),
    ):
        costs = [f"{found[f'{kind}, {work}'] * 1e6:.2f} us" for kind in ("core", "metrics", "traces")]
        table.add_row(title, *costs)
    table.add_row("speech to text, an audio message", "", f"{found['stt, audio'] * 1e6:.2f} us", "")
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
