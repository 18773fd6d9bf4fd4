"""What a conversation took: each answer's stages, and how soon an interruption silenced the assistant."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mesh.client.pacing import InputClock
from mesh.client.player import Part, Player
from mesh.durations import to_seconds
from unmute.conversation.v1 import conversation_pb2 as pb


@dataclass(slots=True)
class AnswerTiming:
    """One answer. All in seconds from the end of the user's speech; None where it does not apply."""

    response_id: str
    """The response."""
    status: str = "in_progress"
    """How it ended."""
    end_of_turn: float | None = None
    """To the decision that the turn had ended, by the server's clock."""
    transcript: float | None = None
    """To the last word of the transcript, by the server's clock."""
    first_token: float | None = None
    """To the language model's first token, by the server's clock."""
    first_audio: float | None = None
    """To the first audio, by the server's clock."""
    heard: float | None = None
    """To the first sound from the loudspeaker, by the client's clock."""

    @property
    def transport(self) -> float | None:
        """What the way to and from the server and the player's reserve add."""
        if self.heard is None or self.first_audio is None:
            return None
        return self.heard - self.first_audio


@dataclass(frozen=True, slots=True)
class Interruption:
    """The user spoke while the assistant did."""

    response_id: str
    """The response that was being played."""
    real: bool
    """It was cut off; otherwise playback went on."""
    speech_to_silence: float | None
    """Seconds from the first sound of the user's speech to the last of the assistant's; None for typed text."""
    dropped: float
    """Seconds of audio that were thrown away."""


class Stopwatch:
    """Takes times from events as they arrive, on the client's clock."""

    def __init__(self, sent: InputClock, player: Player, started: float) -> None:
        """`started` is when the player's clock was 0."""
        self.answers: list[AnswerTiming] = []
        """In order; the greeting has no times."""
        self.interruptions: list[Interruption] = []
        """In order."""
        self._sent = sent
        self._player = player
        self._started = started
        self._speech_began: float | None = None
        self._speech_ended: float | None = None
        self._ended: dict[str, float] = {}
        self._parts: dict[Part, str] = {}
        self._held: float | None = None
        self._silent: float | None = None
        """When the last interruption fell silent, if it is not known yet what it is to be measured from."""

    def typed(self, now: float) -> None:
        """The user sent text."""
        self._speech_began, self._speech_ended = None, now

    def apply(self, event: pb.ConverseResponse) -> None:
        """Takes one event; to be called before the player learns of it."""
        match event.WhichOneof("event"):
            case "speech_started":
                self._speech_began = self._spoken(to_seconds(event.speech_started.start_offset))
                self._complete_interruption()
            case "speech_stopped":
                self._speech_ended = self._spoken(to_seconds(event.speech_stopped.end_offset))
            case "input_audio_committed" if self._speech_ended is None:
                span = event.input_audio_committed.span
                if span.HasField("end_offset"):
                    self._speech_ended = self._spoken(to_seconds(span.end_offset))
            case "response_created":
                self._created(event.response_created.response.id)
            case "output_audio_delta":
                ref = event.output_audio_delta.ref
                self._parts.setdefault(Part(ref.item_id, ref.content_index), ref.response_id)
            case "output_audio_paused":
                self._held = self._last_sound()
            case "output_audio_resumed":
                self._interrupted(event.output_audio_resumed.response_id, real=False)
            case "interrupted":
                self._interrupted(event.interrupted.response_id, real=True)
            case "response_done":
                self._done(event.response_done.response)

    def played(self) -> None:
        """Notes which answers have begun to sound."""
        for part, response_id in list(self._parts.items()):
            clock = self._player.started_at(part)
            if clock is None:
                continue
            del self._parts[part]
            answer = self._answer(response_id)
            if answer.heard is None and response_id in self._ended:
                answer.heard = self._started + clock / self._player.rate - self._ended[response_id]

    def _spoken(self, offset: float) -> float | None:
        return self._sent.time_of(offset) if self._sent.samples else None

    def _answer(self, response_id: str) -> AnswerTiming:
        for answer in self.answers:
            if answer.response_id == response_id:
                return answer
        self.answers.append(AnswerTiming(response_id))
        return self.answers[-1]

    def _created(self, response_id: str) -> None:
        self._answer(response_id)
        # What began to be said before has been answered now.
        self._speech_began = None
        if self._speech_ended is not None:
            self._ended[response_id], self._speech_ended = self._speech_ended, None

    def _last_sound(self) -> float | None:
        sound = self._player.last_sound
        return None if sound is None else self._started + sound / self._player.rate

    def _interrupted(self, response_id: str, *, real: bool) -> None:
        silent = self._held if self._held is not None else self._last_sound()
        self._held = None
        if silent is None:
            return
        delay = None if self._speech_began is None else max(0.0, silent - self._speech_began)
        dropped = self._player.queued / self._player.rate if real else 0.0
        self.interruptions.append(Interruption(response_id, real, delay, dropped))
        self._silent = silent if delay is None else None

    def _complete_interruption(self) -> None:
        """Where the speech that interrupted began is told only after the interruption itself."""
        silent, self._silent = self._silent, None
        if silent is not None and self._speech_began is not None and self._speech_began <= silent:
            delay = silent - self._speech_began
            self.interruptions[-1] = replace(self.interruptions[-1], speech_to_silence=delay)

    def _done(self, response: pb.Response) -> None:
        answer = self._answer(response.id)
        answer.status = pb.ResponseStatus.Name(response.status).removeprefix("RESPONSE_STATUS_").lower()
        stages = {field.name: to_seconds(value) for field, value in response.timing.ListFields()}
        answer.end_of_turn = stages.get("end_of_turn_delay")
        answer.transcript = stages.get("transcript_delay")
        answer.first_token = stages.get("first_token_delay")
        answer.first_audio = stages.get("first_audio_delay")
