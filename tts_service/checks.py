"""Checks that every engine makes of an utterance's settings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mesh.errors import InvalidArgumentError, NotFoundError
from tts_service.engine import Capabilities, UtteranceConfig, Voice


def choose_voice(config: UtteranceConfig, capabilities: Capabilities, voices: Sequence[Voice]) -> Voice:
    """Returns the voice that `config` asks for.

    Raises:
        NotFoundError: the model or the voice is unknown.
        InvalidArgumentError: the voice does not speak the language, or the speed is not served.
    """
    if config.model and config.model != capabilities.model:
        raise NotFoundError("config.model", f"no model {config.model!r}; there is {capabilities.model!r}")
    voice = next((voice for voice in voices if config.voice_id in ("", voice.id)), None)
    if voice is None:
        known = ", ".join(voice.id for voice in voices)
        raise NotFoundError("config.voice_id", f"no voice {config.voice_id!r}; there are {known}")
    if config.language_code and not speaks(voice, config.language_code):
        spoken = ", ".join(voice.language_codes)
        raise InvalidArgumentError(
            "config.language_code", f"voice {voice.id!r} speaks {spoken}, not {config.language_code!r}"
        )
    _check_rate(config.speaking_rate, capabilities.speaking_rate)
    return voice


def speaks(voice: Voice, language_code: str) -> bool:
    """Tells whether a voice speaks a language (BCP-47), whatever the region: "en" and "en-GB" match "en-US"."""
    wanted = _primary(language_code)
    return any(_primary(code) == wanted for code in voice.language_codes)


def _primary(language_code: str) -> str:
    return language_code.strip().lower().replace("_", "-").partition("-")[0]


def _check_rate(rate: float, limits: tuple[float, float] | None) -> None:
    if limits is None:
        if rate != 1:
            raise InvalidArgumentError("config.speaking_rate", "this model cannot change its speed")
        return
    least, greatest = limits
    # A float32 of the wire is not quite the number that was meant.
    slack = 1e-6
    if not (math.isfinite(rate) and least - slack <= rate <= greatest + slack):
        raise InvalidArgumentError("config.speaking_rate", f"must be {least:g} to {greatest:g}, not {rate:g}")
