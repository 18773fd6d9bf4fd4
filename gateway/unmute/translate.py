"""From the events of Converse to those of Unmute's clients, and from their settings to those of Converse."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict

from gateway.errors import INVALID, EventError, from_event
from gateway.unmute.events import KINDS, ConstantInstructions, SessionSettings
from gateway.unmute.history import History
from gateway.unmute.sound import IN_RATE, OUT_RATE, Speech
from mesh.durations import to_seconds
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

Event = dict[str, Any]

GOODBYE = "Bye!"
"""With this at its end, an answer ends the session."""
PLOTTED = 600
"""Turn predictions that are kept for a client's plot."""


def base_config() -> pb.SessionConfig:
    """Returns the settings that every session of the dialect has."""
    return pb.SessionConfig(
        input_format=_pcm(IN_RATE), output_format=_pcm(OUT_RATE), turn_predictions=True, debug=True
    )


def apply(config: pb.SessionConfig, wanted: SessionSettings, characters: Collection[pb.Character]) -> None:
    """Puts what a client wants into `config`.

    Raises:
        EventError: the mesh has no character with such instructions.
    """
    if wanted.instructions is not None:
        config.instructions.CopyFrom(_instructions(wanted, characters))
    if wanted.voice is not None:
        config.voice_id = wanted.voice


def _instructions(wanted: SessionSettings, characters: Collection[pb.Character]) -> pb.Instructions:
    instructions = wanted.instructions
    assert instructions is not None  # noqa: S101 - the caller has looked
    # A client may name two languages; the first is the one to begin in.
    language = (instructions.language or "").partition("/")[0]
    if isinstance(instructions, ConstantInstructions):
        return pb.Instructions(text=instructions.text, language_code=language)
    fitting = [one for one in characters if one.kind == KINDS[instructions.type]]
    spoken = [one for one in fitting if one.instructions.language_code.startswith(language)]
    if not fitting:
        message = f"This server has no character of the type {instructions.type!r}."
        raise EventError(message, "invalid_value", "session.instructions.type")
    found = (spoken or fitting)[0]
    return pb.Instructions(preset=pb.Preset(character_id=found.id), language_code=language)


def _pcm(rate: int) -> audio_pb2.AudioFormat:
    return audio_pb2.AudioFormat(
        encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=rate, channel_count=1
    )


class Translation:
    """Translates one session's events, and remembers what its clients are told again and again."""

    def __init__(self) -> None:
        self.history = History()
        self.goodbye = False
        """The assistant has said goodbye, and all of it was sent."""
        self._speech = Speech()
        self._debug: dict[str, Any] = {}
        self._plot: deque[dict[str, float]] = deque(maxlen=PLOTTED)
        self._ready = 0

    def translate(self, event: pb.ConverseResponse) -> Iterator[Event]:
        """Yields what the client is sent for an event; none for most that its clients have no name for."""
        kind = event.WhichOneof("event")
        match kind:
            case "item_added" | "item_done":
                change = getattr(event, kind)
                self.history.put(change.item, change.previous_item_id)
            case "item_truncated":
                self.history.cut(event.item_truncated.item_id, event.item_truncated.transcript)
            case "item_deleted":
                self.history.drop(event.item_deleted.item_id)
            case "debug_info":
                self._debug = MessageToDict(event.debug_info.values)
            case "turn_prediction":
                prediction = event.turn_prediction
                point = {"t": to_seconds(prediction.offset), "pause_prediction": prediction.pause_probability}
                self._plot.append(point)
            case "speech_started":
                yield {"type": "input_audio_buffer.speech_started"}
            case "speech_stopped":
                yield {"type": "input_audio_buffer.speech_stopped"}
            case "input_transcript_delta":
                text = event.input_transcript_delta.text
                yield {
                    "type": "conversation.item.input_audio_transcription.delta",
                    "delta": text.text.strip(),
                    "start_time": round(to_seconds(text.span.start_offset), 3),
                }
            case "error":
                yield show_error(from_event(event.error))
            case _:
                yield from self._answer(event)

    def additional_outputs(self) -> Event:
        """Returns what clients are told every second, and after each answer."""
        outputs = {
            "chat_history": self.history.show(),
            "debug_dict": self._debug,
            "debug_plot_data": list(self._plot),
        }
        return {"type": "unmute.additional_outputs", "args": outputs}

    def _answer(self, event: pb.ConverseResponse) -> Iterator[Event]:
        match event.WhichOneof("event"):
            case "response_created":
                self._ready = 0
                response: Event = {
                    "object": "realtime.response",
                    "status": "in_progress",
                    "voice": event.response_created.response.voice_id,
                    "chat_history": self.history.show(),
                }
                yield {"type": "response.created", "response": response}
            case "output_text_ready":
                yield {"type": "unmute.response.text.delta.ready", "delta": event.output_text_ready.text}
            case "output_audio_ready":
                # Converse tells how much there is in all, and this dialect how much there is more.
                ready = round(to_seconds(event.output_audio_ready.audio_duration) * OUT_RATE)
                more, self._ready = ready - self._ready, ready
                yield {"type": "unmute.response.audio.delta.ready", "number_of_samples": more}
            case "output_text_delta":
                delta = event.output_text_delta
                self.history.grow(delta.ref.item_id, delta.text.text)
                yield {"type": "response.text.delta", "delta": delta.text.text.strip()}
            case "output_text_done":
                yield {"type": "response.text.done", "text": event.output_text_done.text}
            case "output_audio_delta":
                for sound in self._speech.encode(event.output_audio_delta.audio.data):
                    yield {"type": "response.audio.delta", "delta": sound}
            case "output_audio_done":
                for sound in self._speech.flush():
                    yield {"type": "response.audio.delta", "delta": sound}
                yield {"type": "response.audio.done"}
            case "interrupted" if event.interrupted.reason in _BY_THE_USER:
                yield {"type": "unmute.interrupted_by_vad"}
            case "response_done":
                self.goodbye = _says_goodbye(event.response_done.response)
                yield self.additional_outputs()


_BY_THE_USER = (pb.INTERRUPTION_REASON_VAD, pb.INTERRUPTION_REASON_TRANSCRIPT)


def show_error(error: EventError, kind: str = "") -> Event:
    """Returns an `error` event.

    Args:
        error: what went wrong.
        kind: "warning" is not shown to people, "fatal" ends the session; else it is whose fault it is.
    """
    body: Event = {"type": kind or (INVALID if error.type == INVALID else error.type), "message": error.message}
    body |= {name: value for name, value in (("code", error.code), ("param", error.param)) if value}
    return {"type": "error", "error": body}


def _says_goodbye(response: pb.Response) -> bool:
    if response.status != pb.RESPONSE_STATUS_COMPLETED or not response.output:
        return False
    parts = response.output[-1].message.content
    return bool(parts) and (parts[-1].audio.transcript or parts[-1].text).rstrip().endswith(GOODBYE)
