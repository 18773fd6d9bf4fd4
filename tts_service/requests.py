"""Reads and checks the requests of the text-to-speech service."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mesh.audio import Format, read_format
from mesh.durations import to_seconds
from mesh.errors import InvalidArgumentError
from tts_service.checks import choose_voice
from tts_service.engine import Engine, UtteranceConfig, Voice
from unmute.tts.v1 import tts_pb2

MAX_TEXT_BYTES = 65_536
MAX_RATE = 48_000
MAX_CHANNELS = 2
MAX_VOICES = 100


@dataclass(frozen=True, slots=True)
class UtteranceRequest:
    """What a caller wants of one utterance."""

    engine: UtteranceConfig
    """What the engine is told; the voice is resolved."""
    voice: Voice
    """The voice that speaks."""
    format: Format
    """Layout of the audio that is sent."""
    text_offsets: bool
    """Whether words are sent."""
    max_lead: float | None
    """Most audio, in seconds, that is sent ahead of real time; None: no limit."""


def read_config(config: tts_pb2.SynthesisConfig, engine: Engine) -> UtteranceRequest:
    """Returns the settings of an utterance.

    Raises:
        InvalidArgumentError: a field is wrong; the error names it.
        NotFoundError: no such voice or model.
    """
    capabilities = engine.capabilities
    wanted = UtteranceConfig(
        model=config.model,
        voice_id=config.voice_id,
        language_code=config.language_code,
        speaking_rate=config.speaking_rate if config.HasField("speaking_rate") else 1.0,
        seed=config.seed if config.HasField("seed") else None,
    )
    voice = choose_voice(wanted, capabilities, engine.voices)
    return UtteranceRequest(
        engine=wanted,
        voice=voice,
        format=_read_output_format(config, capabilities.sample_rate),
        text_offsets=config.text_offsets,
        max_lead=_read_max_lead(config),
    )


def check_text(text: str, field: str) -> None:
    """Raises InvalidArgumentError if a single text, at the path `field`, is too long."""
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise InvalidArgumentError(field, f"must be at most {MAX_TEXT_BYTES} bytes, not {size}")


def read_page(request: tts_pb2.ListVoicesRequest) -> tuple[int, int]:
    """Returns the first voice and the number of voices that a page holds.

    Raises:
        InvalidArgumentError: the page size or the token is wrong.
    """
    if request.page_size < 0:
        raise InvalidArgumentError("page_size", f"must not be negative, not {request.page_size}")
    token = request.page_token
    if token and not (token.isascii() and token.isdigit() and len(token) < 10):
        raise InvalidArgumentError("page_token", "is not one that this server gave")
    return int(token or 0), min(request.page_size or MAX_VOICES, MAX_VOICES)


def _read_output_format(config: tts_pb2.SynthesisConfig, native_rate: int) -> Format:
    if not config.HasField("format"):
        return Format(native_rate)
    result = read_format(config.format, "config.format")
    if result.sample_rate > MAX_RATE:
        raise InvalidArgumentError("config.format.sample_rate_hertz", f"must be 8000 to {MAX_RATE}")
    if result.channels > MAX_CHANNELS:
        raise InvalidArgumentError("config.format.channel_count", f"must be 1 to {MAX_CHANNELS}")
    return result


def _read_max_lead(config: tts_pb2.SynthesisConfig) -> float | None:
    if not config.HasField("max_lead"):
        return None
    seconds = to_seconds(config.max_lead)
    if not math.isfinite(seconds) or seconds < 0 or abs(config.max_lead.nanos) > 999_999_999:
        raise InvalidArgumentError("config.max_lead", "must be a duration that is not negative")
    return seconds
