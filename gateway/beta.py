"""The beta form of the event model: flat settings, other names. It is turned into the current form, and back."""

from __future__ import annotations

from typing import Any

from gateway import parse
from gateway.errors import EventError
from gateway.schema.events import ClientEvent
from gateway.translate.events import Event

_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_FORMAT_NAMES = {name: beta for beta, name in _FORMATS.items()}
_NO_EQUIVALENT = frozenset({"temperature", "client_secret"})
_PARTS = {
    "user": {},
    "system": {"text": "input_text"},
    "assistant": {"text": "output_text", "audio": "output_audio", "input_text": "output_text"},
}
_EVENTS = {
    "conversation.item.added": "conversation.item.created",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}
_UNKNOWN = frozenset({"conversation.item.done"})
"""Events that the beta form does not have."""

# Paths of errors, longest first.
_PARAMS = {
    "session.audio.input.format.type": "session.input_audio_format",
    "session.audio.input.format": "session.input_audio_format",
    "session.audio.output.format.type": "session.output_audio_format",
    "session.audio.output.format": "session.output_audio_format",
    "session.audio.output.voice": "session.voice",
    "session.audio.output.speed": "session.speed",
    "session.audio.input.": "session.",
    "session.transcription": "session.input_audio_transcription",
    "session.noise_reduction": "session.input_audio_noise_reduction",
    "session.output_modalities": "session.modalities",
    "session.max_output_tokens": "session.max_response_output_tokens",
    "response.audio.output.voice": "response.voice",
    "response.audio.output.format": "response.output_audio_format",
    "response.output_modalities": "response.modalities",
}


class Beta:
    """Speaks it with one client."""

    def parse(self, text: str) -> ClientEvent:
        """Returns the event of a message.

        Raises:
            EventError: it is none; names the field as the client knows it.
        """
        raw = parse.load(text)
        try:
            return parse.check(_to_current(raw))
        except EventError as error:
            error.param = to_beta_param(error.param)
            raise

    def show(self, event: Event) -> list[Event]:
        """Returns what an event is in the beta form; nothing if that does not have it."""
        kind = event["type"]
        if kind in _UNKNOWN:
            return []
        shown = {**event, "type": _EVENTS.get(kind, kind)}
        if "session" in shown:
            shown["session"] = _flat_session(shown["session"])
            if shown["session"].pop("type", "") == "transcription":
                shown["type"] = f"transcription_{kind}"
        if "response" in shown:
            shown["response"] = _flat_response(shown["response"])
        if "item" in shown:
            shown["item"] = _beta_item(shown["item"])
        if kind == "error":
            error = dict(shown["error"])
            error["param"] = to_beta_param(error["param"])
            shown["error"] = error
        return [shown]


def to_beta_param(param: str | None) -> str | None:
    """Returns the path of a field as beta clients know it."""
    for current, beta in _PARAMS.items():
        if param is not None and param.startswith(current):
            param = beta + param[len(current) :]
    return param


# ---------------------------------------------------------------- from the client


def _to_current(raw: dict[str, Any]) -> dict[str, Any]:
    event = dict(raw)
    match event.get("type"):
        case "transcription_session.update":
            event["type"] = "session.update"
            event["session"] = _nested(event.get("session"), "transcription")
        case "session.update":
            event["session"] = _nested(event.get("session"), "realtime")
        case "response.create" if isinstance(event.get("response"), dict):
            event["response"] = _nested_response(event["response"])
        case "conversation.item.create":
            event["item"] = _current_item(event.get("item"))
    return event


def _nested(session: Any, kind: str) -> Any:
    if not isinstance(session, dict):
        return session
    flat = {name: value for name, value in session.items() if name not in _NO_EQUIVALENT}
    if kind == "transcription":
        flat.pop("modalities", None)
    audio_input: dict[str, Any] = {}
    audio_output: dict[str, Any] = {}
    _move(flat, "input_audio_format", audio_input, "format", _format)
    _move(flat, "input_audio_noise_reduction", audio_input, "noise_reduction")
    _move(flat, "input_audio_transcription", audio_input, "transcription")
    _move(flat, "turn_detection", audio_input, "turn_detection")
    _move(flat, "output_audio_format", audio_output, "format", _format)
    _move(flat, "voice", audio_output, "voice")
    _move(flat, "speed", audio_output, "speed")
    _move(flat, "modalities", flat, "output_modalities", _modalities)
    _move(flat, "max_response_output_tokens", flat, "max_output_tokens")
    sides = {name: side for name, side in (("input", audio_input), ("output", audio_output)) if side}
    return {**flat, **({"audio": sides} if sides else {}), "type": kind}


def _nested_response(response: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in response.items() if name not in _NO_EQUIVALENT}
    output: dict[str, Any] = {}
    _move(flat, "voice", output, "voice")
    _move(flat, "output_audio_format", output, "format", _format)
    _move(flat, "modalities", flat, "output_modalities", _modalities)
    _move(flat, "max_response_output_tokens", flat, "max_output_tokens")
    if isinstance(flat.get("input"), list):
        flat["input"] = [_current_item(item) for item in flat["input"]]
    return {**flat, **({"audio": {"output": output}} if output else {})}


def _move(source: dict[str, Any], old: str, target: dict[str, Any], new: str, change: Any = None) -> None:
    if old in source:
        value = source.pop(old)
        target[new] = change(value) if change is not None else value


def _format(value: Any) -> Any:
    return {"type": _FORMATS.get(value, value)} if isinstance(value, str) else value


def _modalities(value: Any) -> Any:
    # Speech always comes with its text, which the beta form asked for by name.
    return ["audio"] if isinstance(value, list) and "audio" in value else value


def _current_item(item: Any) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get("content"), list):
        return item
    names = _PARTS.get(str(item.get("role")), {})
    content = [
        {**part, "type": names.get(str(part.get("type")), part.get("type"))} if isinstance(part, dict) else part
        for part in item["content"]
    ]
    return {**item, "content": content}


# ---------------------------------------------------------------- to the client


def _flat_session(session: dict[str, Any]) -> dict[str, Any]:
    kept = ("type", "id", "object", "model", "expires_at", "instructions", "tools", "tool_choice", "tracing")
    flat = {name: session[name] for name in kept if name in session}
    audio_input = session["audio"]["input"]
    flat["input_audio_format"] = _FORMAT_NAMES[audio_input["format"]["type"]]
    flat["input_audio_transcription"] = audio_input["transcription"]
    flat["input_audio_noise_reduction"] = audio_input["noise_reduction"]
    flat["turn_detection"] = audio_input["turn_detection"]
    if "output" in session["audio"]:
        output = session["audio"]["output"]
        flat["output_audio_format"] = _FORMAT_NAMES[output["format"]["type"]]
        flat["voice"], flat["speed"] = output["voice"], output["speed"]
        flat["modalities"] = _beta_modalities(session["output_modalities"])
        flat["max_response_output_tokens"] = session["max_output_tokens"]
    return flat


def _flat_response(response: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in response.items() if name not in ("audio", "output_modalities", "output")}
    output = response["audio"]["output"]
    flat["output"] = [_beta_item(item) for item in response["output"]]
    flat["modalities"] = _beta_modalities(response["output_modalities"])
    flat["output_audio_format"] = _FORMAT_NAMES[output["format"]["type"]]
    flat["voice"] = output["voice"]
    return flat


def _beta_modalities(modalities: list[str]) -> list[str]:
    return ["text", "audio"] if modalities == ["audio"] else modalities


def _beta_item(item: dict[str, Any]) -> dict[str, Any]:
    if "content" not in item:
        return item
    content = [{**part, "type": part["type"].removeprefix("output_")} for part in item["content"]]
    return {**item, "content": content}


def asks_for_beta(header: str, protocols: list[str]) -> bool:
    """Returns whether a client speaks the beta form.

    Args:
        header: its OpenAI-Beta; empty for none.
        protocols: the WebSocket subprotocols that it offers.
    """
    named = [part.strip() for part in header.split(",")]
    return "realtime=v1" in named or "openai-beta.realtime-v1" in protocols
