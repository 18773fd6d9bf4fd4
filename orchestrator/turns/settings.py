"""What can be set about turn-taking, and what the core needs to know of a session."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from orchestrator.turns.items import Item, ItemRef


class TurnMode(enum.Enum):
    """How the end of the user's turn is found."""

    SEMANTIC = "semantic"
    """By the pause probability; silence, the engine's own end of turn and a commit still count."""
    SILENCE = "silence"
    """By silence alone, the engine's own end of turn, or a commit; predictions end nothing."""
    MANUAL = "manual"
    """By the client alone: a commit, or activity start and end. Speech does not interrupt; activity start does."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """Numbers of turn-taking. Times are seconds, probabilities in [0, 1]."""

    mode: TurnMode = TurnMode.SEMANTIC
    create_response: bool = True
    """Answer when the turn ends; without it only `ResponseRequested` makes an answer."""

    speech_onset: float = 0.12
    """Speech, by the voice detector, that starts a turn when no word has come yet."""
    pause_threshold: float = 0.6
    """The smoothed pause probability above this ends the turn."""
    prediction_half_life: float = 0.04
    """Half-life of the smoothing: `p += (raw - p) * (1 - 0.5 ** (dt / half_life))`, dt on the audio clock. 0: none."""
    prediction_warm_up: float = 1.0
    """Predictions this early on the STT stream are ignored; 0 for an engine whose predictions are good at once."""
    prediction_step: float = 0.08
    """A prediction sooner than this after the turn's first sign is of the same step and ends nothing."""
    silence_duration: float = 0.7
    """Silence after speech, by the voice detector, that ends the turn."""
    word_silence_duration: float = 3.0
    """Without a voice detector: this long without a new word ends the turn."""
    flush_timeout: float = 2.0
    """A flush that takes longer is given up: the turn ends with the text there is."""

    preemptive: bool = True
    """Begin an answer on a likely end of turn."""
    preemptive_threshold: float = 0.4
    """The smoothed pause probability above this begins a preemptive answer."""
    preemptive_silence: float | None = 0.25
    """So does this much silence by the voice detector. None: only predictions do."""
    preemptive_stability: float = 0.15
    """The text must not have changed for this long, where the engine does not say how stable it is."""
    preemptive_text_stability: float = 0.95
    """Where it does, the text must be this likely to stay as it is."""

    interrupt_response: bool = True
    """The user's speech stops the assistant. Typed text and a cancel always do."""
    interruption_onset: float = 0.2
    """Speech, by the voice detector, that pauses the assistant: a possible interruption."""
    false_interruption: float = 0.8
    """Without a word within this, a possible interruption was none, and the assistant goes on."""
    clear_duration: float = 0.7
    """What is heard of less speech than this interrupts only once it is final, and heard well: an "uh-huh" may be read
    as any word."""
    clear_confidence: float = 0.33
    """So little speech is heard well from this confidence on."""
    echo_guard: float = 3.0
    """In this much of the first response only words interrupt."""
    no_interruption_duration: float = 0.0
    """In this much of every response nothing that is spoken interrupts."""

    idle_timeout: float | None = 7.0
    """Silence while it is the user's turn, after which the assistant speaks up. None: never."""
    silences_before_goodbye: int = 3
    """Silences in a row that are filled; at the next the model is told to say goodbye, and the session then closes."""

    max_output_lead: float = 0.4
    """Audio is sent at most this far ahead of playback."""
    pacing_step: float = 0.08
    """Audio is released in steps of this length, at the least."""
    report_timeout: float = 1.0
    """Playback is taken by the server's clock once a client that reports it has been silent for this long."""

    answer_timeout: float = 10.0
    """A language model that says nothing for this long has failed."""
    speech_timeout: float = 10.0
    """A speech synthesiser that owes audio and makes none for this long has failed."""
    tool_timeout: float = 15.0
    """A function whose result takes longer has failed; slow (asynchronous) ones get `slow_tool_timeout`."""
    slow_tool_timeout: float = 300.0
    """The same for slow functions."""
    drain_duration: float = 10.0
    """Time left to the client after `GoAway`."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function that the model may call, as far as the core must know it."""

    name: str
    on_client: bool = False
    """The client runs it; else the server does."""
    slow: bool = False
    """Asynchronous: the assistant talks on, and the result starts an answer of its own."""


END_CONVERSATION = "end_conversation"
"""Name of the function that closes the session after the last audio; the core itself carries it out."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the core knows of a session. Prompt, voice, sampling and tool schemas stay with the shell."""

    turns: TurnSettings = field(default_factory=TurnSettings)
    language_codes: tuple[str, ...] = ("en",)
    """Languages of the user, BCP-47, for backchannels. Empty: all that are known."""
    tools: tuple[ToolSpec, ...] = ()
    speaks_first: bool = False
    """The assistant opens the conversation as soon as the session has started."""
    reports_playback: bool = False
    """The client sends playback progress."""
    interim_transcripts: bool = False
    """Emit `InputTranscriptInterim`."""
    turn_predictions: bool = False
    """Emit `TurnPredicted`."""
    speaks: bool = True
    """Answers are spoken; else they are only written."""
    answer_tool_results: bool = True
    """Answer once the client's functions have answered; else they are not waited for, and the client asks."""
    debug: bool = False
    """Emit `OutputTextReady`, `OutputAudioReady` and `DebugInfo`."""


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """What one response is asked to be; what is unset is the session's."""

    instructions: str | None = None
    voice_id: str | None = None
    max_output_tokens: int | None = None
    speaks: bool | None = None
    tools: tuple[ToolSpec, ...] | None = None
    out_of_band: bool = False
    """Nothing of it becomes an item; its calls are reported, not waited for. One that is only written runs beside
    the response in progress."""
    input: tuple[Item | ItemRef, ...] | None = None
    """What to answer in place of the conversation."""
    metadata: tuple[tuple[str, str], ...] = ()
    """The client's own labels."""
    shell: object = None
    """What the shell needs to carry it out; nothing that the core looks at."""


DEFAULT_OPTIONS = ResponseOptions()
